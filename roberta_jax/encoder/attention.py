"""Multi-head self-attention."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import dropout
from roberta_jax.encoder.product import Linear, contract


def fused_implementation(
    implementation: str, dtype: jnp.dtype, head_size: int
) -> Literal["xla", "cudnn"]:
    """What `auto` means here: cuDNN's fused kernel where it applies (NVIDIA, 16 bit), else XLA."""
    if implementation != "auto":
        return "cudnn" if implementation == "cudnn" else "xla"
    fits = dtype.itemsize == 2 and head_size % 8 == 0 and head_size <= 128
    return "cudnn" if jax.default_backend() == "gpu" and fits else "xla"


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(scores: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Softmax of float32 scores [..., S], rounded to `dtype`.

    The gradient needs the rounded result only: with bfloat16, half the memory that the float32
    result of every layer would take.
    """
    return jax.nn.softmax(scores, axis=-1).astype(dtype)


def _softmax_forward(scores: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    weights = softmax(scores, dtype)
    return weights, weights


def _softmax_backward(dtype: Any, saved: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    weights, cotangent = saved.astype(jnp.float32), cotangent.astype(jnp.float32)
    return (weights * (cotangent - (weights * cotangent).sum(axis=-1, keepdims=True)),)


softmax.defvjp(_softmax_forward, _softmax_backward)


class SelfAttention(nnx.Module):
    """Softmax attention over the real tokens of the row, with dropout on the probabilities."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Four projections D → D."""
        width, dtype = config.hidden_size, jnp.dtype(config.compute_dtype)
        self.query = Linear(width, width, dtype=dtype, rngs=rngs)
        self.key = Linear(width, width, dtype=dtype, rngs=rngs)
        self.value = Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = Linear(width, width, dtype=dtype, rngs=rngs)
        self.num_heads = config.num_heads
        self.dropout_rate = config.attention_dropout_rate
        self.implementation = config.attention_implementation

    def __call__(self, x: jax.Array, real: jax.Array, keys: jax.Array | None) -> jax.Array:
        """X [B, T, D], real [B, T] bool (False: padding), dropout keys [B] or None → [B, T, D]."""
        heads = (*x.shape[:2], self.num_heads, x.shape[2] // self.num_heads)  # [B, T, H, K]
        query, key, value = (
            linear(x).reshape(heads) for linear in (self.query, self.key, self.value)
        )
        mask = real[:, None, None, :]  # [B, 1, 1, S]
        if keys is None or self.dropout_rate == 0:
            attended = jax.nn.dot_product_attention(
                query,
                key,
                value,
                mask=jnp.broadcast_to(mask, (x.shape[0], 1, x.shape[1], x.shape[1])),
                implementation=fused_implementation(self.implementation, x.dtype, heads[3]),
            )
        else:  # The public fused kernels have no dropout on the probabilities.
            attended = self._with_dropout(query, key, value, mask, keys)
        return self.out(attended.reshape(x.shape))

    def _with_dropout(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array,
        keys: jax.Array,
    ) -> jax.Array:
        scores = contract(query, key, ("bthk", "bshk", "bhts"), jnp.dtype(jnp.float32))
        scores = jnp.where(mask, scores * query.shape[-1] ** -0.5, -1e30)
        weights = softmax(scores, value.dtype)  # [B, H, T, S]
        weights = dropout(weights, keys, self.dropout_rate)
        return contract(weights, value, ("bhts", "bshk", "bthk"), value.dtype)
