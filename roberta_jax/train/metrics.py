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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file; a last line cut short by a kill is left out.

    Raises:
      UserError: a line in the middle is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries += [json.loads(line)] if line else []
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"{path} line {number} is not JSON ({error}); mend or remove it."
                ) from error
    return entries


class MetricsLog:
    """Appends to the record of a workdir; close it, or use it in a `with` block."""

    def __init__(self, workdir: Path, *, after_step: int):
        """Goes on after `after_step`: later lines are dropped, for they will be written again.

        A new run has -1 there: it keeps no line of one that was killed before its first checkpoint.
        """
        path = workdir / METRICS_FILE
        kept = [entry for entry in read_lines(path) if entry["step"] <= after_step]
        replace_text(path, "".join(_line(entry) for entry in kept))
        self._file: TextIO = path.open("a", encoding="utf-8")
        # Imported late: it takes as long as everything else that the command line needs.
        from tensorboardX import SummaryWriter

        self._tensorboard = SummaryWriter(
            str(workdir / TENSORBOARD_FOLDER),
            purge_step=max(after_step + 1, 0),
            # tensorboardX names files by the second, and would overwrite those of this second.
            filename_suffix=f".{time.time_ns()}",
        )

    def __enter__(self) -> "MetricsLog":
        """The log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes."""
        self.close()

    def write(self, kind: str, *, step: int, examples_seen: int, **values: Any) -> None:
        """Appends one line, on disk when this returns (as far as the system promises it)."""
        entry = {"step": step, "kind": kind, "examples_seen": examples_seen, **values}
        self._file.write(_line(entry))
        self._file.flush()
        for name, value in values.items():
            if kind != "event" and isinstance(value, float) and math.isfinite(value):
                self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Writes out what TensorBoard holds back, and closes both."""
        self._tensorboard.close()
        self._file.close()


def _line(entry: dict[str, Any]) -> str:
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"
