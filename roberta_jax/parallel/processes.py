"""What the processes of a run do together: starting, agreeing, waiting for each other.

With one process, everything here is done at once. All processes call these functions in the same
order; strings travel through jax's coordination service, so no device is needed.
"""

import contextlib
import dataclasses
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
from jax._src import clusters, distributed

from roberta_jax.errors import MachineError, UserError
from roberta_jax.parallel.launch import (
    HEARTBEAT_TIMEOUT_SECONDS,
    START_TIMEOUT_SECONDS,
    Launch,
)
from roberta_jax.parallel.rendezvous import meet
from roberta_jax.parallel.watch import Watch

T = TypeVar("T")

# One process may prepare for so long what the others wait for: it reads a manifest of many shards,
# or restores a checkpoint from a slow disk. One that died is found out by the watch, much earlier.
_WAIT_SECONDS = 1800.0


@dataclasses.dataclass(slots=True)
class _Group:
    """The processes of this run."""

    client: Any
    process_id: int
    hosts: list[str]
    watch: Watch
    calls: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def name(self, number: int) -> str:
        return f"process {number} on {self.hosts[number]}"


_group: _Group | None = None


@contextlib.contextmanager
def started(
    launch: Launch | None,
    *,
    start_timeout_seconds: float = START_TIMEOUT_SECONDS,
    heartbeat_timeout_seconds: float = HEARTBEAT_TIMEOUT_SECONDS,
) -> Iterator[None]:
    """Connects the processes of a run; call it before jax makes its devices.

    Args:
      launch: how this process was started; None: it is alone.
      start_timeout_seconds: how long to wait for the others at the start.
      heartbeat_timeout_seconds: silence after which a process counts as gone, and the others end.

    Raises:
      MachineError: some processes did not come; they are named.
      UserError: they were started with other numbers.
    """
    global _group
    if launch is None:
        yield
        return
    assert _group is None, "the processes are connected"
    if not (start_timeout_seconds > 0 and heartbeat_timeout_seconds >= 1):
        raise UserError(
            f"--start_timeout={start_timeout_seconds:g} and --heartbeat_timeout="
            f"{heartbeat_timeout_seconds:g} are seconds: positive, and at least 1."
        )
    if launch.source == "TPU" and not launch.address:
        launch = _pod(launch, start_timeout_seconds)
    if launch.num_processes == 1:
        yield
        return
    group = _connect(launch, start_timeout_seconds, heartbeat_timeout_seconds)
    _group = group
    try:
        yield
        barrier("the end")  # Process 0 outlives the others: they talk through it.
        group.watch.stop()
    except UserError as error:
        group.watch.tell(str(error))
        raise
    except jax.errors.JaxRuntimeError as error:
        # A collective fails at once where the connection to a process breaks: which one?
        group.watch.suspect()
        group.watch.tell(f"jax: {' '.join(str(error).split())}"[:300])
        raise
    except BaseException as error:
        group.watch.tell(f"{type(error).__name__}: {error}"[:300])
        raise
    finally:
        _group = None
    jax.distributed.shutdown()


def _pod(launch: Launch, timeout_seconds: float) -> Launch:
    """This host among those of a TPU pod, as jax knows it from the environment or from Google."""
    try:
        address, count, number, _ = clusters.ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout_seconds)
        )
        if not address or not count or number is None:
            raise RuntimeError("it knows no such cluster")
    except (OSError, RuntimeError, ValueError) as error:
        raise MachineError(
            "This machine has TPUs, and jax could not find out whether it is part of a pod "
            f"({' '.join(str(error).split())[:200]}). Add --distributed=off for a run on this host "
            "alone, or --coordinator_address, --num_processes and --process_id."
        ) from error
    return dataclasses.replace(launch, address=address, num_processes=count, process_id=number)


def _connect(launch: Launch, start_timeout: float, heartbeat_timeout: float) -> _Group:
    hosts = meet(launch, timeout_seconds=start_timeout)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Its handler of SIGTERM would take the place of ours, which saves on all processes.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        launch.address,
        launch.num_processes,
        launch.process_id,
        local_device_ids=launch.local_devices or None,
        cluster_detection_method="deactivate",
        initialization_timeout=max(int(start_timeout), 1),
        # Our own watch finds out first, and says more.
        heartbeat_timeout_seconds=int(2 * heartbeat_timeout) + 10,
        shutdown_timeout_seconds=60,
    )
    for number, handler in handlers.items():
        signal.signal(number, handler)
    # jax has no public way to it; orbax goes this way, too.
    client: Any = distributed.global_state.client
    watch = Watch(
        client, process_id=launch.process_id, hosts=hosts, timeout_seconds=heartbeat_timeout
    )
    return _Group(client, launch.process_id, hosts, watch)


def is_first() -> bool:
    """Whether this process writes what is written once: config, records, what the user sees."""
    return _group is None or _group.process_id == 0


def interrupted() -> None:
    """Tells the other processes that this one leaves at a signal, outside of its loop."""
    if _group is not None:
        _group.watch.tell("interrupted by a signal")


def advise(text: str) -> None:
    """What the user can do when a process of the run is gone; a sentence."""
    if _group is not None:
        _group.watch.advise(text)


def barrier(name: str, *, timeout_seconds: float = _WAIT_SECONDS) -> None:
    """Returns when all processes have come here.

    Raises:
      MachineError: some did not come in time; they are named.
    """
    _gather(name, "", timeout_seconds)


def _gather(name: str, value: str, timeout_seconds: float = _WAIT_SECONDS) -> list[str]:
    """The values of all processes, by number."""
    if _group is None:
        return [value]
    key = f"roberta_jax/call/{next(_group.calls)}/{name}/"
    _group.client.key_value_set(f"{key}{_group.process_id}", value)
    deadline = time.monotonic() + timeout_seconds
    everybody = range(len(_group.hosts))
    return [_get(key, number, deadline, name, everybody) for number in everybody]


def _get(key: str, number: int, deadline: float, name: str, awaited: Sequence[int]) -> str:
    """The value of a process; where it does not come, all of the `awaited` are looked for."""
    assert _group is not None
    left = max(deadline - time.monotonic(), 0.001)
    try:
        return str(_group.client.blocking_key_value_get(f"{key}{number}", int(left * 1000) + 1))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
    there = {int(path.rpartition("/")[2]) for path, _ in _group.client.key_value_dir_get(key)}
    missing = [_group.name(n) for n in awaited if n not in there]
    raise MachineError(
        f"{', '.join(missing)} did not come to {name!r} in time. Look at the log there for what "
        "takes so long, or whether it hangs; then run the same command again."
    )


def from_first(name: str, make: Callable[[], T]) -> T:
    """What `make` returns on the first process, or raises there; the others don't call it.

    Args:
      name: of what is waited for.
      make: its result is something that JSON can hold (lists come back as lists).
    """
    if _group is None:
        return make()
    key = f"roberta_jax/call/{next(_group.calls)}/{name}/"
    if _group.process_id == 0:
        try:
            value = make()
        except Exception as error:
            _group.client.key_value_set(f"{key}0", _as_text(error))
            raise
        _group.client.key_value_set(f"{key}0", json.dumps({"value": value}))
        return value
    answer = json.loads(_get(key, 0, time.monotonic() + _WAIT_SECONDS, name, (0,)))
    if "error" in answer:
        raise _error(answer)
    result: T = answer["value"]
    return result


def on_first(name: str, act: Callable[[], object]) -> None:
    """Does something on the first process; all go on when it is done, or raise what it raised."""

    def done() -> None:
        act()

    from_first(name, done)


def all_or_none(name: str, make: Callable[[], T]) -> T:
    """What `make` returns; where it raises on any process, all of them raise.

    A UserError is the same for all; of anything else, the others get a MachineError.
    """
    if _group is None:
        return make()
    error: Exception | None = None
    try:
        value = make()
    except Exception as raised:
        error = raised
    answers = _gather(name, "" if error is None else _as_text(error))
    if error is not None:
        raise error
    for number, text in enumerate(answers):
        if text:
            raise _error(json.loads(text), f"On {_group.name(number)}: ")
    return value


def check_same(name: str, values: Mapping[str, Any], advice: str) -> None:
    """Refuses processes that were given different things.

    Args:
      name: what is compared, such as "config".
      values: setting → what it is here; something that JSON can hold.
      advice: what to do, a sentence.

    Raises:
      UserError: on all processes; it names the first process that differs, and how.
    """
    answers = [json.loads(text) for text in _gather(name, json.dumps(values, sort_keys=True))]
    for number, other in enumerate(answers):
        if other == answers[0]:
            continue
        assert _group is not None
        first = answers[0]
        different = [
            f"{path} is {other.get(path, 'missing')!r} there and {first.get(path, 'missing')!r} on "
            f"{_group.name(0)}"
            for path in sorted(first | other)
            if first.get(path) != other.get(path)
        ]
        more = f" (and {len(different) - 3} more)" if len(different) > 3 else ""
        raise UserError(
            f"The processes do not have the same {name}: on {_group.name(number)}, "
            f"{'; '.join(different[:3])}{more}. {advice}"
        )


def _as_text(error: Exception) -> str:
    if isinstance(error, UserError):
        return json.dumps({"error": str(error), "kind": type(error).__name__})
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}."
    return json.dumps({"error": text, "kind": MachineError.__name__})


def _error(answer: dict[str, str], prefix: str = "") -> UserError:
    kinds = [UserError]
    for kind in kinds:  # Grows.
        kinds += kind.__subclasses__()
    (kind,) = (kind for kind in kinds if kind.__name__ == answer["kind"])
    return kind(f"{prefix}{answer['error']}")


class SharedStop:
    """A wish to stop, of any process, that all of them follow after the same step.

    The first process with the wish proposes a step that no other can have passed: one that waits
    for a step which this process has not begun is at most so many steps ahead.
    """

    def __init__(self, most_steps_in_flight: int):
        """No wish yet.

        Args:
          most_steps_in_flight: steps that are begun before the earliest of them is waited for.
        """
        self._lead = most_steps_in_flight + 1
        self._at: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._key = "" if _group is None else f"roberta_jax/stop/{next(_group.calls)}/"

    def due(self, step: int, *, wished: bool) -> bool:
        """Whether to stop after `step`, the last that was begun; ask after every step."""
        if _group is None:
            return wished
        if wished and self._proposal() is None:
            try:
                _group.client.key_value_set(f"{self._key}at", str(step + self._lead))
            except jax.errors.JaxRuntimeError as error:
                if "ALREADY_EXISTS" not in str(error):  # Another was first: its step holds.
                    raise
        at = self._proposal()
        return at is not None and step >= at

    def went_back(self) -> None:
        """All processes went back to an earlier step: a wish that there was holds at once there."""
        if _group is None:
            return
        known = "" if self._proposal() is None else "wished"
        if any(_gather("stop", known)):
            self._at = 0
        else:
            self._begin()

    def _proposal(self) -> int | None:
        assert _group is not None
        if self._at is None:
            for _, value in _group.client.key_value_dir_get(self._key):
                self._at = int(value)
        return self._at
