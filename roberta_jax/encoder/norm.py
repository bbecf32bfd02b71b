"""LayerNorm as RoBERTa has it: over the last axis, statistics in float32, eps 1e-5."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.product import sum_of_rows


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: jnp.dtype
) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) · scale + bias, over the last axis.

    Args:
      x: [..., C], any float type.
      scale: [C] float32.
      bias: [C] float32.
      epsilon: added to the variance.
      dtype: the type of the result; everything is computed in float32.
    """
    return _forward(x, scale, bias, epsilon, dtype)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any
) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    # Not E[x²] - E[x]², which cancels where the mean is large.
    variance = jnp.square(wide - mean).mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = (wide - mean) * inverse * scale + bias
    return y.astype(dtype), (x, scale, mean, inverse)


def _backward(epsilon: float, dtype: Any, saved: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    del epsilon, dtype
    x, scale, mean, inverse = saved
    normal = (x.astype(jnp.float32) - mean) * inverse
    cotangent = cotangent.astype(jnp.float32)
    scaled = cotangent * scale
    along = (scaled * normal).mean(axis=-1, keepdims=True)
    x_gradient = (scaled - scaled.mean(axis=-1, keepdims=True) - normal * along) * inverse
    return x_gradient.astype(x.dtype), sum_of_rows(cotangent * normal), sum_of_rows(cotangent)


normalize.defvjp(_forward, _backward)


class LayerNorm(nnx.Module):
    """`normalize` over the hidden size, with a scale that begins as 1 and a bias as 0."""

    def __init__(self, config: EncoderConfig):
        """Makes scale and bias [D] float32."""
        self.scale = nnx.Param(jnp.ones((config.hidden_size,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((config.hidden_size,), jnp.float32))
        self.epsilon = config.layer_norm_epsilon
        self.compute_dtype = jnp.dtype(config.compute_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """X [..., D] → [..., D] in the compute type."""
        return normalize(x, self.scale[...], self.bias[...], self.epsilon, self.compute_dtype)
