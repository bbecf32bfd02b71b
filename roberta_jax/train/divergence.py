"""Signs that a run goes astray: updates left out, and losses that stand out of those before."""

import dataclasses
import math
import statistics

from roberta_jax.config import DivergenceConfig
from roberta_jax.errors import MachineError
from roberta_jax.train.progress import Progress

# The median distance from the median, times this, estimates the standard deviation of a normal
# distribution.
_DEVIATIONS_PER_MEDIAN_DISTANCE = 1.4826
# Losses closer together than this (relative to their median) don't make a spike out of noise.
_SMALLEST_DEVIATION = 1e-3


@dataclasses.dataclass(frozen=True, slots=True)
class Spike:
    """A loss that stands out.

    Attributes:
      step: updates after it.
      loss_nats: mean over the predictions of the step.
      median_nats: of the steps before.
      z_score: robust standard deviations above that median.
    """

    step: int
    loss_nats: float
    median_nats: float
    z_score: float


def observe(
    config: DivergenceConfig, progress: Progress, loss_nats: float, *, applied: bool
) -> Spike | None:
    """Takes in the loss of the step that led to `progress.step`, and updates `progress`.

    Returns:
      A spike where one begins; the steps of the same spike that follow give None. The same losses
      give the same spikes, wherever a run was stopped between them.

    Raises:
      MachineError: more updates in a row had to be left out than the config allows.
    """
    if not applied:
        progress.updates_skipped += 1
        progress.skips_in_a_row += 1
        if progress.skips_in_a_row > config.max_skips_in_a_row:
            raise _diverged(config, progress)
        return None
    progress.skips_in_a_row = 0
    if math.isnan(loss_nats):  # Without a prediction there is no loss.
        return None
    before = progress.recent_losses
    spike = _spike(config, before, loss_nats, progress.step)
    begins = spike is not None and not progress.in_spike
    progress.in_spike = spike is not None
    # A loss that stays high becomes the new normal after half a window.
    before.append(loss_nats)
    del before[: -config.spike_window_steps]
    return spike if begins else None


def _spike(
    config: DivergenceConfig, before: list[float], loss_nats: float, step: int
) -> Spike | None:
    if math.isinf(config.spike_z_score) or len(before) < config.spike_window_steps // 2:
        return None
    median = statistics.median(before)
    distance = statistics.median(abs(loss - median) for loss in before)
    deviation = max(_DEVIATIONS_PER_MEDIAN_DISTANCE * distance, _SMALLEST_DEVIATION * median, 1e-9)
    z_score = (loss_nats - median) / deviation
    return Spike(step, loss_nats, median, z_score) if z_score > config.spike_z_score else None


def _diverged(config: DivergenceConfig, progress: Progress) -> MachineError:
    return MachineError(
        f"The loss or its gradient is not a finite number at step {progress.step}, in "
        f"{progress.skips_in_a_row} steps in a row (divergence.max_skips_in_a_row is "
        f"{config.max_skips_in_a_row}): the run has diverged. Lower "
        "optimizer.peak_learning_rate, lengthen schedule.warmup or set "
        "optimizer.clip_global_norm=1.0, and begin again, or go back to an earlier checkpoint with "
        "--resume=STEP; another --config.seed there gives the rows in another order."
    )
