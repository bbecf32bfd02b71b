"""Which batches a run had, phase by phase, as its `config.json` says: of this version or another.

What a config lacks, or has in another form, is None here; nothing raises.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from roberta_jax.config import Duration
from roberta_jax.errors import UserError
from roberta_jax.report.metrics import RunMetrics


@dataclasses.dataclass(slots=True, frozen=True)
class Batches:
    """The batches of a phase, or of a whole run without phases.

    Attributes:
      duration: Such as "90%"; None without phases.
      num_rows: Of one batch.
      row_tokens: Of one row.
    """

    duration: str | None
    num_rows: int | None
    row_tokens: int | None

    def rows(self, total: str | None) -> float:
        """Rows of the phase in a run of length `total`, or NaN where only the data can tell."""
        length, whole = _duration(self.duration), _duration(total)
        if length and length.unit == "%" and whole:
            length = Duration(whole.number * length.number / 100, whole.unit)
        if length and length.unit == "steps" and self.num_rows:
            return length.number * self.num_rows
        if length and length.unit == "tokens" and self.row_tokens:
            return length.number / self.row_tokens
        return math.nan


def batches(config: dict[str, Any]) -> list[Batches]:
    """The batches of every phase, in order; of a run without phases, one."""
    num_rows = _count(section(config, "train").get("batch_size"))
    row_tokens = _count(section(config, "data").get("sequence_length"))
    return [
        Batches(
            str(phase.get("duration")),
            _count(phase.get("batch_size")) or num_rows,
            _count(phase.get("sequence_length")) or row_tokens,
        )
        for phase in phases(config)
    ] or [Batches(None, num_rows, row_tokens)]


def phases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of every phase; none in a config without phases."""
    found = config.get("phases")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def section(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields of a section; none where the config lacks it."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def total_duration(config: dict[str, Any]) -> str | None:
    """How long the run is, such as "500000 steps"; None where only its phases say it."""
    train = section(config, "train")
    # Older versions had a number of steps.
    old = f"{train['num_steps']} steps" if "num_steps" in train else None
    return str(train["duration"]) if train.get("duration") else old


def horizontal_axis(runs: Sequence[RunMetrics]) -> str:
    """What curves are drawn over: "step", or "examples_seen" where a step is not the same.

    After as many steps, runs of different batch sizes have seen different amounts of text, and the
    one with the larger batch looks the better one.
    """
    recorded = all(
        run.series(kind, "examples_seen")[0].size
        for run in runs
        for kind in ("train", "eval")
        if run.series(kind, "step")[0].size
    )
    sizes = {_sizes(run.config) for run in runs}
    return "examples_seen" if len(sizes) > 1 and recorded else "step"


def tokens_seen(config: dict[str, Any], rows: float) -> float:
    """Tokens of the first `rows` rows of the run, padding included, or NaN."""
    found = batches(config)
    if len({one.row_tokens for one in found}) == 1:
        return rows * (found[0].row_tokens or math.nan)
    tokens, total = 0.0, total_duration(config)
    for number, one in enumerate(found):
        length = math.inf if number == len(found) - 1 else one.rows(total)
        if math.isnan(length):  # min() would take the other one.
            return math.nan
        part = min(rows, length)
        tokens += part * (one.row_tokens or math.nan)
        rows -= part
    return tokens


def _sizes(config: dict[str, Any]) -> tuple[Any, ...]:
    """Equal for two runs if a step of one is as many rows as that step of the other."""
    found = batches(config)
    if len({one.num_rows for one in found}) == 1:
        return (found[0].num_rows,)
    return (total_duration(config), *((one.duration, one.num_rows) for one in found))


def _duration(text: str | None) -> Duration | None:
    try:
        return Duration.parse(text or "", "duration")
    except UserError:
        return None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
