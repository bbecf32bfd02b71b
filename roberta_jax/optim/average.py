"""An exponential average of the weights over the last updates (Polyak and Juditsky 1992)."""

import jax
import jax.numpy as jnp

from roberta_jax.encoder.model import Params


def update_average(
    average: Params, params: Params, *, num_updates: jax.Array, decay: float
) -> Params:
    """The average after one more update: decay_t * average + (1 - decay_t) * params.

    decay_t = min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage has it: early
    on, the average forgets the random initial weights sooner.

    Args:
      average: float32, like params.
      params: the weights after the update.
      num_updates: n, the updates before this one; int32 scalar.
      decay: in [0, 1); the average is over about 1 / (1 - decay) updates.

    Returns:
      The new average, float32.
    """
    # 1 - decay_t, written so that float32 keeps its digits for a decay near 1.
    share = jnp.maximum(1 - decay, 9 / (10 + num_updates.astype(jnp.float32)))
    return jax.tree.map(lambda old, new: old + share * (new - old), average, params)
