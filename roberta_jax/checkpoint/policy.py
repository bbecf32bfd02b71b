"""Which checkpoints stay: the last N, every K steps, the best by evaluation loss."""

import math
from collections.abc import Mapping, Sequence

from roberta_jax.config import CheckpointConfig


def steps_to_keep(
    steps: Sequence[int], config: CheckpointConfig, evaluation_loss_nats: Mapping[int, float]
) -> set[int]:
    """The steps that stay.

    Args:
      steps: all checkpoints there are.
      config: the policy.
      evaluation_loss_nats: the loss of the steps that were evaluated.
    """
    ordered = sorted(steps)
    kept = set(ordered[-config.keep_last :])
    if config.keep_every_steps:
        kept |= {step for step in ordered if step % config.keep_every_steps == 0}
    # A loss that is not a number is not the best, and no order has a place for it.
    evaluated = [
        step for step in ordered if math.isfinite(evaluation_loss_nats.get(step, math.nan))
    ]
    kept |= set(sorted(evaluated, key=lambda step: evaluation_loss_nats[step])[: config.keep_best])
    return kept
