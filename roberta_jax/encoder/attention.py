"""Multi-head self-attention."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import dropout
from roberta_jax.encoder.product import Linear, precision_of
from roberta_jax.errors import UserError
from roberta_jax.parallel.tables import constrain, num_shards


def fused_implementation(
    implementation: str, dtype: jnp.dtype, head_size: int
) -> Literal["xla", "cudnn"]:
    """What `auto` means here: cuDNN's fused kernel where it applies (NVIDIA, 16 bit), else XLA.

    Where the mesh splits the tokens of a row, it does not apply.

    Raises:
      UserError: cuDNN is asked for where it does not apply.
    """
    gpu = jax.default_backend() == "gpu" and "NVIDIA" in jax.devices()[0].device_kind
    fits = gpu and dtype.itemsize == 2 and head_size % 8 == 0 and head_size <= 128
    fits = fits and num_shards("context") == 1
    if implementation == "cudnn" and not fits:
        raise UserError(
            "encoder.attention_implementation is cudnn, which needs an NVIDIA GPU, mesh.context=1, "
            "encoder.compute_dtype=bfloat16 and heads of a multiple of 8 up to 128; "
            f"this is {jax.devices()[0].device_kind}, {dtype} and heads of {head_size}. Use auto."
        )
    return "cudnn" if implementation != "xla" and fits else "xla"


def check_implementation(config: EncoderConfig) -> None:
    """Raises UserError for an implementation of attention that is not to be had here."""
    dtype = jnp.dtype(config.compute_dtype)
    head_size = config.hidden_size // config.num_heads
    fused_implementation(config.attention_implementation, dtype, head_size)


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


def _einsum(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    # XLA's CPU backend lacks the bfloat16 product with float32 sums where [B, H, T, S] is second.
    return jnp.einsum(equation, a, b, precision=precision_of(a), preferred_element_type=jnp.float32)


@jax.custom_vjp
def products(query: jax.Array, key: jax.Array) -> jax.Array:
    """Query [B, T, H, K] times key [B, S, H, K] → [B, H, T, S] float32.

    As `product.product`: the cotangent is rounded to the operands' type, and every sum is float32.
    """
    return _einsum("bthk,bshk->bhts", query, key)


def _products_backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    query, key = saved
    cotangent = cotangent.astype(query.dtype)
    query_gradient = _einsum("bhts,bshk->bthk", cotangent, key)
    key_gradient = _einsum("bhts,bthk->bshk", cotangent, query)
    return query_gradient.astype(query.dtype), key_gradient.astype(key.dtype)


products.defvjp(
    lambda query, key: (products(query, key), (query, key)),
    _products_backward,
)


@jax.custom_vjp
def mixture(weights: jax.Array, value: jax.Array) -> jax.Array:
    """Weights [B, H, T, S] times value [B, S, H, K] → [B, T, H, K], all of one type.

    Every sum is float32, also those of the gradients.
    """
    return _einsum("bhts,bshk->bthk", weights, value).astype(value.dtype)


def _mixture_backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    weights, value = saved
    weights_gradient = _einsum("bthk,bshk->bhts", cotangent, value)
    value_gradient = _einsum("bhts,bthk->bshk", weights, cotangent)
    return weights_gradient.astype(weights.dtype), value_gradient.astype(value.dtype)


mixture.defvjp(
    lambda weights, value: (mixture(weights, value), (weights, value)), _mixture_backward
)


def _mask(visible: jax.Array) -> jax.Array:
    """[B, S] or [B, T, S] → [B, 1, 1 or T, S]."""
    return visible[:, None, None, :] if visible.ndim == 2 else visible[:, None]


class SelfAttention(nnx.Module):
    """Softmax attention over the visible tokens of the row, with dropout on the probabilities."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Four projections D → D."""
        width = config.hidden_size
        self.query = Linear(width, width, config, rngs=rngs)
        self.key = Linear(width, width, config, rngs=rngs)
        self.value = Linear(width, width, config, rngs=rngs)
        self.out = Linear(width, width, config, rngs=rngs)
        self.num_heads = config.num_heads
        self.dropout_rate = config.attention_dropout_rate
        self.implementation = config.attention_implementation

    def __call__(self, x: jax.Array, visible: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Attends.

        Args:
          x: [B, T, D].
          visible: what can be attended to, [B, S] bool alike for all tokens of a row, or
            [B, T, S] for each.
          keys: dropout keys [B] uint32, or None.

        Returns:
          [B, T, D].
        """
        query, key, value = (
            constrain(self._heads(linear(x)), "heads")
            for linear in (self.query, self.key, self.value)
        )
        # Each device has the queries of its tokens, and looks at all of the row.
        key, value = constrain(key, "attended"), constrain(value, "attended")
        mask = _mask(visible)
        if keys is None or self.dropout_rate == 0:
            attended = jax.nn.dot_product_attention(
                query,
                key,
                value,
                mask=jnp.broadcast_to(mask, (x.shape[0], 1, x.shape[1], x.shape[1])),
                implementation=fused_implementation(self.implementation, x.dtype, query.shape[3]),
            )
        else:  # The public fused kernels have no dropout on the probabilities.
            attended = self._with_dropout(query, key, value, mask, keys)
        return self.out(attended.reshape(x.shape))

    def weights(self, x: jax.Array, visible: jax.Array) -> jax.Array:
        """The probabilities with which tokens attend to each other: [B, H, T, S] float32."""
        scores = self._scores(self._heads(self.query(x)), self._heads(self.key(x)), _mask(visible))
        return softmax(scores, jnp.dtype(jnp.float32))

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.num_heads, -1)  # [B, T, H, K]

    @staticmethod
    def _scores(query: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
        return jnp.where(mask, products(query, key) * query.shape[-1] ** -0.5, -1e30)

    def _with_dropout(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array,
        keys: jax.Array,
    ) -> jax.Array:
        weights = softmax(self._scores(query, key, mask), value.dtype)  # [B, H, T, S]
        weights = dropout(weights, keys, self.dropout_rate)
        return mixture(weights, value)
