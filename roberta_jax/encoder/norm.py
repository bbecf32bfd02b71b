"""LayerNorm as RoBERTa has it: over the last axis, statistics in float32, eps 1e-5."""

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig


def layer_norm(config: EncoderConfig) -> nnx.LayerNorm:
    """An `nnx.LayerNorm` (scale 1, bias 0) that returns the compute type."""
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.layer_norm_epsilon,
        dtype=jnp.dtype(config.compute_dtype),
        use_fast_variance=False,  # E[x²] - E[x]² cancels where the mean is large.
        rngs=nnx.Rngs(jax.random.key(0)),  # Unused: the initial values are constants.
    )
