"""The learning rate as a function of the number of updates applied so far."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from roberta_jax.config import OptimizerConfig

Schedule = Callable[[jax.Array], jax.Array]


def linear_warmup_linear_decay(config: OptimizerConfig, num_steps: int) -> Schedule:
    """0 → peak over `warmup_steps`, then → 0 at `num_steps`.

    The decay is counted from the end of warm-up, as fairseq does (BERT counts it from step 0, so
    its rate drops where warm-up ends). The first update has rate peak / warmup_steps.
    """

    def rate(step: jax.Array) -> jax.Array:
        update = step + 1.0
        up = update / max(config.warmup_steps, 1)
        down = (num_steps - step) / max(num_steps - config.warmup_steps, 1)
        return config.peak_learning_rate * jnp.clip(jnp.minimum(up, down), 0.0, 1.0)

    return rate
