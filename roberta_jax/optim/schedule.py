"""The learning rate as a function of the number of updates applied so far."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.config import ScheduleConfig

Schedule = Callable[[Any], Any]  # Steps so far, int32 → learning rate, float32; of JAX or NumPy.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The steps that one rise and fall of the learning rate covers: [first_step, end_step).

    Attributes:
      first_step: counted from the start of the run.
      end_step: counted from the start of the run.
      peak_learning_rate: of this stretch.
      warmup_steps: updates until the peak; 0 and 1: the first update has the peak.
      decay_steps: how long before `end_step` warmup_stable_decay begins to fall.
    """

    first_step: int
    end_step: int
    peak_learning_rate: float
    warmup_steps: int
    decay_steps: int


def make_schedule(config: ScheduleConfig, stretches: Sequence[Stretch]) -> Schedule:
    """The learning rate of a run; its first update has rate peak / warmup_steps.

    Decay is counted from the end of warm-up, as fairseq does, or with `decay_from=start` from the
    beginning, as BERT does, whose rate so drops where warm-up ends. It comes to peak * final_share
    at `end_step`.

    Args:
      config: the kind of decay.
      stretches: at least one, each beginning where the one before ends. After the last one the
        rate stays what it is at its `end_step`.

    Returns:
      A function of the step, int32 of any shape, that can be traced; of NumPy's numbers, it gives
      NumPy's, and asks no device.
    """
    assert stretches
    assert all(a.end_step == b.first_step for a, b in itertools.pairwise(stretches))

    def rate(step: Any) -> Any:
        value = _rate(config, stretches[0], step)
        for stretch in stretches[1:]:
            later = _rate(config, stretch, step)
            value = _numpy_of(step).where(step >= stretch.first_step, later, value)
        return value

    return rate


def _numpy_of(x: Any) -> Any:
    """jax.numpy for JAX's arrays, NumPy for its own."""
    return jnp if isinstance(x, jax.Array) else np


def _rate(config: ScheduleConfig, stretch: Stretch, step: Any) -> Any:
    xp = _numpy_of(step)
    step = xp.clip(step, stretch.first_step, stretch.end_step)
    # Subtracted as integers: float32 has no odd numbers beyond 2^24.
    update = (step + 1 - stretch.first_step).astype(jnp.float32)
    left = (stretch.end_step - step).astype(jnp.float32)
    warmup = max(stretch.warmup_steps, 1)
    if config.kind == "inverse_sqrt":
        fall = xp.sqrt(warmup / update)
    else:
        fall = config.final_share + (1 - config.final_share) * _fall(config, stretch, left)
    if config.decay_from == "start":
        value = xp.where(update <= stretch.warmup_steps, update / warmup, fall)
    else:
        value = xp.minimum(update / warmup, fall)
    return stretch.peak_learning_rate * xp.clip(value, 0.0, 1.0)


def _fall(config: ScheduleConfig, stretch: Stretch, left: Any) -> Any:
    """From 1 where the decay begins to 0 where no steps are left."""
    xp = _numpy_of(left)
    if config.kind == "warmup_stable_decay":
        length = stretch.decay_steps
    else:
        before = 0 if config.decay_from == "start" else stretch.warmup_steps
        length = stretch.end_step - stretch.first_step - before
    share = xp.clip(left / max(length, 1), 0.0, 1.0)
    if config.kind == "polynomial":
        return share**config.power
    if config.kind == "cosine":
        # (1 + cos(π (1 - share))) / 2, but exact to the last digit near the end as well.
        return xp.sin(math.pi / 2 * share) ** 2
    return share
