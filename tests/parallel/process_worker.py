"""One of several processes that do everything of `parallel.processes` once, without a device.

Arguments: its number, the number of processes, the address of the first, a folder for its answers.
Started by `test_processes`.
"""

import json
import sys
import time
from pathlib import Path

from roberta_jax.checkpoint.store import DamagedCheckpointError
from roberta_jax.errors import MachineError, UserError
from roberta_jax.parallel import processes
from roberta_jax.parallel.launch import Launch


def caught(function):
    """What a call raises, or returns."""
    try:
        return function()
    except (UserError, OSError) as error:
        return [type(error).__name__, str(error)]


def fail(error):
    raise error


def answers(number):
    """What every process finds, by name."""
    calls = []
    found = {"first": processes.is_first()}
    found["from first"] = processes.from_first("a", lambda: [number, calls.append(number)])
    found["error of first"] = caught(
        lambda: processes.from_first("b", lambda: fail(MachineError("the disk is full")))
    )
    found["on first"] = processes.on_first("c", lambda: calls.append(number))
    found["called"] = calls
    found["all"] = processes.all_or_none("d", lambda: number * 10)
    found["one fails"] = caught(
        lambda: processes.all_or_none(
            "e", lambda: fail(DamagedCheckpointError("bits")) if number == 1 else number
        )
    )
    found["same"] = caught(lambda: processes.check_same("settings", {"x": 1.0}, "Mend it."))
    found["different"] = caught(
        lambda: processes.check_same(
            "settings", {"x": 1, "y": number, **({"z": 0} if number == 2 else {})}, "Mend it."
        )
    )
    if number != 1:
        found["late"] = caught(lambda: processes.barrier("the start", timeout_seconds=1.0))
    else:
        time.sleep(3)
        processes.barrier("the start")
    # Only process 1 has the wish, after its step 4; process 2 is two steps ahead of it then.
    stop = processes.SharedStop(2)
    begun = 2 if number == 2 else 0
    for step in range(1, 5 + begun):
        assert not stop.due(step, wished=False)
    processes.barrier("all are at their step")
    if number == 1:
        assert not stop.due(4, wished=True)
    processes.barrier("the wish is there")
    step = 4 + begun
    while not stop.due(step, wished=number == 1):
        step += 1
    found["stopped at"] = step
    # A run that goes back: a wish from before holds at once, on those that had not seen it, too.
    stop = processes.SharedStop(2)
    if number == 1:
        assert not stop.due(100, wished=True)
    processes.barrier("the wish is there again")
    stop.went_back()
    found["stopped at once"] = stop.due(50, wished=False)
    # Without one, the next wish is as ever.
    stop = processes.SharedStop(2)
    stop.went_back()
    assert not stop.due(50, wished=False)
    processes.barrier("all are there")
    if number == 2:
        assert not stop.due(50, wished=True)
    processes.barrier("the wish is there once more")
    found["due"] = [step for step in range(50, 56) if stop.due(step, wished=False)]
    found["no user error"] = caught(
        lambda: processes.all_or_none("f", lambda: Path("/no").read_text() if number == 0 else "")
    )
    return found


def main(number, count, address, folder):
    launch = Launch("flags", address, count, number)
    with processes.started(launch, start_timeout_seconds=60, heartbeat_timeout_seconds=30):
        text = json.dumps(answers(number))
        (Path(folder) / f"{number}.json").write_text(text)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
