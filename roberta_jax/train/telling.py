"""How a run tells of its steps: the values of a line of the record, and the line that is shown."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from roberta_jax.config import PretrainConfig
from roberta_jax.train.console import train_line
from roberta_jax.train.evaluate import mean
from roberta_jax.train.hardware import peak_share, step_flops
from roberta_jax.train.plan import Phase
from roberta_jax.train.progress import Window


class Evaluated(Protocol):
    """What an evaluation found."""

    @property
    def loss_nats(self) -> float:
        """By which checkpoints are compared."""

    def entry(self) -> dict[str, Any]:
        """The values of a line of the metrics record."""

    def text(self) -> str:
        """What is said of it."""


@dataclasses.dataclass(frozen=True)
class Telling:
    """How the steps of a run are told.

    Attributes:
      entry: what a line of the record has of the sums since the last one.
      line: such an entry, the number of steps and the seconds left, as one line of text.
      rates: of a step of a phase that took so many seconds.
      work: of a step of a phase, in any unit: the time left is estimated by it.
      compiled_for: of a batch, what a step that is compiled for it is said to be for, after "the
        step"; "" where a phase has one step for all its batches.
    """

    entry: Callable[[Window], dict[str, Any]]
    line: Callable[[dict[str, Any], int, float], str]
    rates: Callable[[Phase, float], dict[str, float]]
    work: Callable[[Phase], float]
    compiled_for: Callable[[dict[str, Any]], str] = lambda batch: ""


def of_pretraining(config: PretrainConfig) -> Telling:
    """Losses of masked tokens, tokens per second, and the share of the chip's peak."""

    def entry(window: Window) -> dict[str, Any]:
        values: dict[str, Any] = dict(window.means().entry())
        del values["num_predictions"]
        if window.z_loss:
            values["z_loss"] = mean(window.z_loss, window.count)
        return values

    def rates(phase: Phase, seconds: float) -> dict[str, float]:
        values = {"tokens_per_second": phase.tokens_per_step / seconds}
        share = peak_share(step_flops(config, phase), seconds)
        if share is not None:
            values["peak_share"] = share
        return values

    return Telling(entry, train_line, rates, lambda phase: step_flops(config, phase))
