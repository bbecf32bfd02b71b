"""The record of a run: `metrics.jsonl` is the truth, TensorBoard files a copy of it.

One JSON object a line with "step", "kind" (train, eval, event), "examples_seen" and the values;
a number that JSON has no word for (the loss of a run that diverged, its perplexity) is null. A
resumed run drops the lines that it is going to write again, so no line is repeated and none is
missing.
"""

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

from roberta_jax.errors import UserError
from roberta_jax.train.workdir import METRICS_FILE, TENSORBOARD_FOLDER, replace_text

ROLLED_BACK = "rolled_back"  # The event of a run that went back to a checkpoint by itself.


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file; a last line cut short by a kill is left out.

    Raises:
      UserError: a line in the middle is not a JSON object with a step.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                entries.append(_entry(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"{path} line {number} is not JSON ({error}); mend or remove it."
                ) from error
    return entries


def _entry(line: str) -> dict[str, Any]:
    entry = json.loads(line)
    if not isinstance(entry, dict) or type(entry.get("step")) is not int:
        raise ValueError('no object with an integer "step"')
    return entry


class MetricsLog:
    """Appends to the record of a workdir; close it, or use it in a `with` block."""

    def __init__(self, workdir: Path, *, after_step: int, writes: bool = True):
        """Goes on after `after_step`: later lines are dropped, for they will be written again.

        A new run has -1 there: it keeps no line of one that was killed before its first checkpoint.
        Of several processes, one writes; the others may call the same methods.
        """
        self._workdir, self._writes = workdir, writes
        self._begin(after_step, keep_rollbacks=False)

    def _begin(self, after_step: int, *, keep_rollbacks: bool) -> None:
        if not self._writes:
            return
        path = self._workdir / METRICS_FILE
        kept = [
            entry
            for entry in read_lines(path)
            if entry["step"] <= after_step or (keep_rollbacks and entry.get("event") == ROLLED_BACK)
        ]
        replace_text(path, "".join(_line(entry) for entry in kept))
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._tensorboard = _ScalarsFile(
            self._workdir / TENSORBOARD_FOLDER, hidden_from_step=max(after_step + 1, 0)
        )

    def rewind(self, after_step: int) -> None:
        """Drops the lines after `after_step`, as a run that goes back to a checkpoint does.

        That it went back there before stays on record.
        """
        self.close()
        self._begin(after_step, keep_rollbacks=True)

    def __enter__(self) -> "MetricsLog":
        """The log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes."""
        self.close()

    def write(self, kind: str, *, step: int, examples_seen: int, **values: Any) -> None:
        """Appends one line, on disk when this returns (as far as the system promises it)."""
        if not self._writes:
            return
        entry = {"step": step, "kind": kind, "examples_seen": examples_seen, **values}
        self._file.write(_line(entry))
        self._file.flush()
        if kind != "event":
            self._tensorboard.write(
                step,
                {
                    f"{kind}/{name}": value
                    for name, value in values.items()
                    if isinstance(value, float) and math.isfinite(value)
                },
            )

    def note(self, event: str, message: str, *, step: int, examples_seen: int) -> None:
        """Appends what happened to the run: one word for it, and the line that was said."""
        self.write("event", step=step, examples_seen=examples_seen, event=event, message=message)

    def close(self) -> None:
        """Closes both files."""
        if not self._writes:
            return
        self._tensorboard.close()
        self._file.close()


class _ScalarsFile:
    """A TensorBoard file of scalars.

    It is written in this thread: tensorboardX's SummaryWriter hands events to another one, which a
    full disk ends, and then waits for it for ever.
    """

    def __init__(self, folder: Path, *, hidden_from_step: int):
        """A new file beside those of earlier sessions, of which later steps are hidden."""
        # Imported late: it takes as long as everything else that the command line needs.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        # tensorboardX names files by the second, and would overwrite those of this second.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(step=hidden_from_step, session_log=start)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends the values of a step."""
        values = [
            self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()
        ]
        self._append(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _append(self, **content: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), **content))
        self._writer.flush()


def _line(entry: dict[str, Any]) -> str:
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"
