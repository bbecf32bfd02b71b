"""Processes, each a thread here, that meet at a port of this machine."""

import concurrent.futures
import socket
import threading
import time

from roberta_jax.errors import MachineError, UserError
from roberta_jax.parallel.launch import Launch
from roberta_jax.parallel.rendezvous import meet


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def meeting(processes, *, timeout=20.0, port=None, counts=None, delays=()):
    """What `meet` gives or raises for each of the process numbers."""
    port = port or free_port()
    counts = counts or [len(processes)] * len(processes)

    def come(number, count, delay):
        time.sleep(delay)
        launch = Launch("flags", f"127.0.0.1:{port}", count, number)
        try:
            return meet(launch, timeout_seconds=timeout)
        except UserError as error:
            return error

    delays = delays or [0] * len(processes)
    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(come, processes, counts, delays))


def test_all_learn_the_hosts_of_all_whoever_comes_first():
    hosts = [socket.gethostname()] * 4
    assert meeting([0, 1, 2, 3]) == [hosts] * 4
    assert meeting([3, 1, 0, 2], delays=[0, 0.2, 0.4, 0.6]) == [hosts] * 4


def test_those_that_did_not_come_are_named_to_all_that_did():
    first, second = meeting([0, 2], timeout=1.0, counts=[4, 4])
    assert type(first) is type(second) is MachineError
    assert str(first) == str(second)
    host = socket.gethostname()
    assert (
        f"Of 4 processes, 2 did not come within 1 s: number 1, 3. There are 0 on {host}, 2 on"
        in (str(first))
    )
    assert "--start_timeout" in str(first)


def test_without_the_first_process_the_others_say_where_they_looked():
    port = free_port()
    (error,) = meeting([1], timeout=0.5, counts=[2], port=port)
    assert type(error) is MachineError
    assert f"could not meet process 0 at 127.0.0.1:{port} within 0 s" in str(error)


def test_two_processes_of_one_number_are_refused():
    errors = meeting([0, 1, 1], counts=[3, 3, 3], timeout=5.0)
    assert any("Two processes have the number 1" in str(error) for error in errors)
    assert "Two processes have the number 1" in str(errors[0])
    assert type(errors[0]) is UserError


def come_and_go(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as gone:
                gone.sendall(b'{"process": 1, "processes": 3, "host": "old"}\n')
            return
        except OSError:
            time.sleep(0.05)


def test_a_process_that_gave_up_may_come_again():
    """As in a loop around the command: the second one comes after its own time was over."""
    port, host = free_port(), socket.gethostname()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(meeting, [0], counts=[3], port=port)
        come_and_go(port)
        assert meeting([1, 2], counts=[3, 3], port=port) == [[host] * 3] * 2
        assert first.result() == [[host] * 3]


def test_a_process_that_is_gone_is_missing():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(meeting, [0], counts=[3], port=port, timeout=3.0)
        come_and_go(port)
        (error,) = first.result()
    assert "2 did not come within 3 s: number 1, 2" in str(error)


def test_another_number_of_processes_is_refused():
    first, second = meeting([0, 1], counts=[2, 3])
    assert type(first) is type(second) is UserError
    assert str(first) == str(second)
    assert "was started as one of 3 processes, and process 0" in str(first)


def test_a_visitor_that_is_no_process_is_sent_away():
    port = free_port()

    def disturb():
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as visitor:
                    visitor.sendall(b"GET / HTTP/1.1\r\n\r\n[]\n")
                    return
            except OSError:
                time.sleep(0.01)

    thread = threading.Thread(target=disturb)
    thread.start()
    hosts = [socket.gethostname()] * 2
    assert meeting([0, 1], port=port, delays=[0, 1.0]) == [hosts] * 2
    thread.join()


def test_a_port_that_is_taken():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        (error,) = meeting([0], counts=[2], port=port)
    assert type(error) is MachineError and f"cannot listen on port {port}" in str(error)
