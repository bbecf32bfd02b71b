"""What three processes on this machine agree on, and the same with one."""

import json
import socket
import subprocess
import sys

import pytest

from roberta_jax.errors import UserError
from roberta_jax.parallel import processes
from tests.parallel.test_rendezvous import free_port

COUNT = 3


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The answers of three processes."""
    folder = tmp_path_factory.mktemp("answers")
    address = f"127.0.0.1:{free_port()}"
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.parallel.process_worker"),
                *(str(number), str(COUNT), address, str(folder)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(COUNT)
    ]
    for process in started:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(COUNT)]


def named(number):
    return f"process {number} on {socket.gethostname()}"


def test_the_processes_know_each_other(found):
    assert [one["first"] for one in found] == [True, False, False]


def test_what_the_first_finds_or_meets_is_everybodys(found):
    assert all(one["from first"] == [0, None] for one in found)
    assert all(one["error of first"] == ["MachineError", "the disk is full"] for one in found)
    assert [one["called"] for one in found] == [[0, 0], [], []]
    assert all(one["on first"] is None for one in found)


def test_what_one_process_cannot_do_none_does(found):
    assert [one["all"] for one in found] == [0, 10, 20]
    told = ["DamagedCheckpointError", f"On {named(1)}: bits"]
    assert [one["one fails"] for one in found] == [told, ["DamagedCheckpointError", "bits"], told]


def test_a_process_with_other_settings_is_named(found):
    assert all(one["same"] is None for one in found)
    for one in found:
        kind, text = one["different"]
        assert kind == "UserError"
        assert text == (
            f"The processes do not have the same settings: on {named(1)}, y is 1 there and 0 on "
            f"{named(0)}. Mend it."
        )


def test_a_process_that_is_late_is_named(found):
    for number in (0, 2):
        kind, text = found[number]["late"]
        assert kind == "MachineError"
        assert text.startswith(f"{named(1)} did not come to 'the start' in time.")


def test_all_stop_after_the_same_step_which_nobody_has_passed(found):
    # The wish came after step 4; with two steps in flight, another may have begun the 6th.
    assert [one["stopped at"] for one in found] == [7] * COUNT


def test_a_run_that_goes_back_keeps_the_wish_to_stop(found):
    assert all(one["stopped at once"] for one in found)
    assert [one["due"] for one in found] == [[53, 54, 55]] * COUNT


def test_what_is_no_user_error_reaches_the_others_as_one(found):
    assert found[0]["no user error"][0] == "FileNotFoundError"
    for one in found[1:]:
        kind, text = one["no user error"]
        assert kind == "MachineError"
        assert text.startswith(f"On {named(0)}: FileNotFoundError: ")


def test_one_process_does_everything_at_once():
    assert processes.is_first()
    assert processes.from_first("a", lambda: (1, 2)) == (1, 2)
    assert processes.all_or_none("b", lambda: 3) == 3
    processes.barrier("c")
    processes.check_same("settings", {"x": 1}, "")
    stop = processes.SharedStop(2)
    stop.went_back()
    assert [stop.due(1, wished=False), stop.due(2, wished=True)] == [False, True]
    with processes.started(None):
        assert processes.is_first()


def test_times_that_make_no_sense_are_refused():
    from roberta_jax.parallel.launch import Launch

    with (
        pytest.raises(UserError, match=r"--heartbeat_timeout=0 "),
        processes.started(Launch("flags", "a:1", 2, 0), heartbeat_timeout_seconds=0),
    ):
        pass
