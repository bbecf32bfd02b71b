"""Where processes meet before jax connects them, so that one that is missing can be named.

jax ends a process that waits in vain with an abort, and does not say for whom it waited. Here
every process first tells process 0 its number and its host; then all go on, or none.
"""

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

from roberta_jax.errors import MachineError, UserError
from roberta_jax.parallel.launch import Launch

_RETRY_SECONDS = 0.2
_MOST_BYTES = 1 << 16


@dataclasses.dataclass(slots=True)
class _Guest:
    """A process that has come."""

    host: str
    connection: socket.socket | None


def meet(launch: Launch, *, timeout_seconds: float) -> list[str]:
    """Returns when all processes are there.

    Args:
      launch: this process; with an address.
      timeout_seconds: how long to wait for the others.

    Returns:
      The host of every process, by number.

    Raises:
      MachineError: some did not come; they are named.
      UserError: two have the same number, or another number of processes.
    """
    deadline = time.monotonic() + timeout_seconds
    if launch.process_id == 0:
        return _receive(launch, deadline, timeout_seconds)
    return _visit(launch, deadline, timeout_seconds)


def _receive(launch: Launch, deadline: float, timeout_seconds: float) -> list[str]:
    guests = {0: _Guest(socket.gethostname(), None)}
    try:
        with _listen(launch.address) as server:
            while True:
                _drop_those_that_left(guests)
                if len(guests) == launch.num_processes:
                    break
                server.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    _drop_those_that_left(guests)
                    raise MachineError(
                        _missing(launch, guests, f"{timeout_seconds:,.0f} s")
                    ) from None
                _admit(connection, launch, guests)
        hosts = [guests[number].host for number in range(launch.num_processes)]
        _tell(guests, {"hosts": hosts})
        return hosts
    except UserError as error:
        _tell(guests, {"error": str(error), "exit_code": error.exit_code})
        raise
    finally:
        for guest in guests.values():
            if guest.connection is not None:
                guest.connection.close()


def _drop_those_that_left(guests: dict[int, _Guest]) -> None:
    """Forgets processes that gave up meanwhile, and may come again."""
    for number, guest in list(guests.items()):
        if guest.connection is not None and _has_left(guest.connection):
            guest.connection.close()
            del guests[number]


def _has_left(connection: socket.socket) -> bool:
    """Whether the other end is closed: a guest says nothing more, so nothing else is there."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(5)


def _admit(connection: socket.socket, launch: Launch, guests: dict[int, _Guest]) -> None:
    """Adds a process; what is none (a port scanner, say) is sent away."""
    connection.settimeout(5)
    try:
        message = _read(connection)
        number, count, host = message["process"], message["processes"], str(message["host"])
    except (OSError, ValueError, KeyError, TypeError):
        connection.close()
        return
    new = _Guest(host, connection)
    _drop_those_that_left(guests)  # It may be one of them.
    try:
        if count != launch.num_processes:
            raise UserError(
                f"Process {number} on {host} was started as one of {count} processes, and process "
                f"0 on {guests[0].host} as one of {launch.num_processes}. Give all of them the "
                "same --num_processes."
            )
        if number in guests:
            raise UserError(
                f"Two processes have the number {number}, one on {guests[number].host} and one on "
                f"{host}. Give each of them its own --process_id, from 0 to "
                f"{launch.num_processes - 1}."
            )
    except UserError as error:
        _tell({number: new}, {"error": str(error), "exit_code": error.exit_code})
        connection.close()
        raise
    guests[number] = new


def _missing(launch: Launch, guests: dict[int, _Guest], waited: str) -> str:
    missing = [str(n) for n in range(launch.num_processes) if n not in guests]
    there = ", ".join(f"{number} on {guest.host}" for number, guest in sorted(guests.items()))
    return (
        f"Of {launch.num_processes} processes, {len(missing)} did not come within {waited}: number "
        f"{', '.join(missing)}. There are {there}. Look at the logs of those that are missing, see "
        f"that they reach {launch.address}, and start all processes again; --start_timeout=SECONDS "
        "waits longer."
    )


def _visit(launch: Launch, deadline: float, timeout_seconds: float) -> list[str]:
    host, _, port = launch.address.rpartition(":")
    me = {
        "process": launch.process_id,
        "processes": launch.num_processes,
        "host": socket.gethostname(),
    }
    reason = "it does not answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left) as server:
                _send(server, me)
                reason = "it answers, and waits for others"
                # If process 0 gives up first, it says for whom it waited.
                server.settimeout(left + 5)
                answer = _read(server)
        except TimeoutError:
            continue
        except (OSError, ValueError) as error:
            reason = str(error)
            time.sleep(_RETRY_SECONDS)
            continue
        if "hosts" in answer:
            return [str(name) for name in answer["hosts"]]
        kind = UserError if answer["exit_code"] == UserError.exit_code else MachineError
        raise kind(answer["error"])
    raise MachineError(
        f"Process {launch.process_id} of {launch.num_processes} on {me['host']} could not meet "
        f"process 0 at {launch.address} within {timeout_seconds:,.0f} s: {reason}. Look at the log "
        "of process 0, see that the address is its host and reachable from here, and start all "
        "processes again; --start_timeout=SECONDS waits longer."
    )


@contextlib.contextmanager
def _listen(address: str) -> Iterator[socket.socket]:
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            backlog=1024,
            dualstack_ipv6=both,
        )
    except OSError as error:
        raise MachineError(
            f"Process 0 cannot listen on port {port} of {socket.gethostname()}: {error.strerror}. "
            "Another program, or an earlier run, has it. Give another port in "
            "--coordinator_address (JAX_COORDINATOR_PORT where Slurm or Open MPI starts the run)."
        ) from error
    with server:
        yield server


def _tell(guests: dict[int, _Guest], message: dict[str, Any]) -> None:
    for guest in guests.values():
        if guest.connection is not None:
            with contextlib.suppress(OSError):  # It is gone; the others are told all the same.
                _send(guest.connection, message)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece or len(data) > _MOST_BYTES:
            raise ValueError("the connection ended early")
        data += piece
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("it answers something else")
    return message
