"""Where a run stands, on the host; it is stored with every checkpoint."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from roberta_jax.train.evaluate import Evaluation, mean
from roberta_jax.train.update import StepMetrics


@dataclasses.dataclass
class Window:
    """Sums since the last log line. It is part of a checkpoint, so a resumed run logs the same."""

    loss: float = 0.0  # Nats, summed over predictions.
    correct: float = 0.0
    count: float = 0.0
    pair_loss: float = 0.0  # Nats, summed over pairs of segments.
    pairs_correct: float = 0.0
    pairs: float = 0.0
    z_loss: float = 0.0  # Nats^2, summed over predictions.

    def add(self, metrics: StepMetrics) -> None:
        """Adds the sums of one step (already on the host) whose update was applied."""
        self.loss += float(metrics.sums.predictions.loss)
        self.correct += float(metrics.sums.predictions.correct)
        self.count += float(metrics.sums.predictions.count)
        self.pair_loss += float(metrics.sums.pairs.loss)
        self.pairs_correct += float(metrics.sums.pairs.correct)
        self.pairs += float(metrics.sums.pairs.count)
        self.z_loss += float(metrics.sums.z_loss)

    def means(self) -> Evaluation:
        """Over the predictions and the pairs of the window."""
        return Evaluation(
            mean(self.loss, self.count),
            mean(self.correct, self.count),
            round(self.count),
            mean(self.pair_loss, self.pairs),
            mean(self.pairs_correct, self.pairs),
        )


@dataclasses.dataclass
class Progress:
    """Where a run stands.

    Attributes:
      step: updates so far, those that were left out included.
      rows_seen: path of a dataset → rows of it consumed, by whatever phases: the position in it.
      window: sums since the last log line.
      updates_skipped: updates that were left out, their gradient not being finite.
      skips_in_a_row: the last of them.
      rollbacks: how often the run went back to a checkpoint.
      recent_losses: nats, of the steps before in this phase; see `divergence`.
      in_spike: whether the last loss was part of a spike.
    """

    step: int
    rows_seen: dict[str, int] = dataclasses.field(default_factory=dict)
    window: Window = dataclasses.field(default_factory=Window)
    updates_skipped: int = 0
    skips_in_a_row: int = 0
    rollbacks: int = 0
    recent_losses: list[float] = dataclasses.field(default_factory=list)
    in_spike: bool = False

    @property
    def examples_seen(self) -> int:
        """Rows consumed by the run."""
        return sum(self.rows_seen.values())

    def to_record(self) -> dict[str, Any]:
        """What JSON can hold, without the step."""
        values = dataclasses.asdict(self)
        del values["step"]
        return values

    @classmethod
    def from_record(cls, step: int, record: Mapping[str, Any]) -> "Progress":
        """The inverse of `to_record`."""
        values = copy.deepcopy(dict(record))
        return cls(step=step, **{**values, "window": Window(**values["window"])})

    def renamed(self, names: Mapping[str, str]) -> "Progress":
        """The same with other paths of the datasets: path then → path now."""
        rows = {names.get(path, path): count for path, count in self.rows_seen.items()}
        return dataclasses.replace(self, rows_seen=rows)
