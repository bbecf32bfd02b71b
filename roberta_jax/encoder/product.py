"""Matrix products whose operands have the compute type and whose sums are float32.

`jax.lax.dot_general(preferred_element_type=float32)` gives that forward, but its transpose would
multiply a float32 cotangent with a bfloat16 operand, which runs as a slow float32 product. Here the
cotangent is rounded to the compute type first, so all three products run on bfloat16 units, and the
weight's gradient stays float32. Products of float32 are asked for in full precision: TPUs and GPUs
would else round their operands.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig


def normal_init(config: EncoderConfig) -> nnx.Initializer:
    """How kernels and embeddings begin: normal(0, initializer_range), not truncated."""
    return nnx.initializers.normal(config.initializer_range)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def product(
    x: jax.Array,
    weight: jax.Array,
    dtype: jnp.dtype,
    result_dtype: jnp.dtype,
    transposed: bool = False,
) -> jax.Array:
    """X [..., I] times weight [I, O] → [..., O].

    Args:
      x: any float type.
      weight: float32 [I, O], or [O, I] if `transposed`.
      dtype: the compute type, to which both operands are rounded; the sum is float32.
      result_dtype: the type of the result.
      transposed: whether the weight's second axis is the one summed over.
    """
    return _forward(x, weight, dtype, result_dtype, transposed)[0]


def _dot(a: jax.Array, b: jax.Array, a_axes: tuple, b_axes: tuple) -> jax.Array:
    return jax.lax.dot_general(
        a,
        b,
        ((a_axes, b_axes), ((), ())),
        precision=precision_of(a),
        preferred_element_type=jnp.float32,
    )


def precision_of(operand: jax.Array) -> jax.lax.Precision:
    """How exactly operands of this type are to be multiplied: float32 in full."""
    exact = operand.dtype == jnp.float32
    return jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT


def _forward(
    x: jax.Array, weight: jax.Array, dtype: Any, result_dtype: Any, transposed: bool
) -> tuple[jax.Array, Any]:
    x_low = x.astype(dtype)
    y = _dot(x_low, weight.astype(dtype), (x.ndim - 1,), (int(transposed),))
    # The zero-sized array carries x's type to the backward pass.
    return y.astype(result_dtype), (x_low, weight, jnp.zeros((0,), x.dtype))


def _backward(
    dtype: Any, result_dtype: Any, transposed: bool, saved: Any, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight, like = saved
    cotangent = cotangent.astype(dtype)
    x_gradient = _dot(cotangent, weight.astype(dtype), (x.ndim - 1,), (int(not transposed),))
    rows = tuple(range(x.ndim - 1))
    if transposed:
        weight_gradient = _dot(cotangent, x, rows, rows)  # [O, I]
    elif x.shape[-1] <= cotangent.shape[-1]:
        weight_gradient = _dot(x, cotangent, rows, rows)  # [I, O]
    else:
        # The CPU copies the left operand transposed: let it be the narrower one. Without the
        # barrier XLA would move the transposition into the product, where it is slow.
        weight_gradient = jax.lax.optimization_barrier(_dot(cotangent, x, rows, rows)).T
    return x_gradient.astype(like.dtype), weight_gradient.astype(weight.dtype)


product.defvjp(_forward, _backward)


def sum_of_rows(x: jax.Array) -> jax.Array:
    """X [..., C] summed over all but the last axis, in float32: [C].

    As a product with rows of ones: the CPU's reduction over several leading axes is many times
    slower, and so is its product with a single vector in bfloat16.
    """
    ones = jnp.ones((*x.shape[:-1], 8), x.dtype)
    rows = tuple(range(x.ndim - 1))
    return _dot(ones, x, rows, rows)[0]


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """X [..., C] + bias [C] float32, in the type of x; the bias's gradient is summed in float32."""
    return x + bias.astype(x.dtype)


add_bias.defvjp(
    lambda x, bias: (add_bias(x, bias), None),
    lambda _, cotangent: (cotangent, sum_of_rows(cotangent)),
)


class Linear(nnx.Module):
    """x @ kernel + bias in the compute type; kernel [I, O] and bias [O] are float32."""

    def __init__(
        self, in_features: int, out_features: int, config: EncoderConfig, *, rngs: nnx.Rngs
    ):
        """Kernel as `normal_init`, bias 0."""
        shape = (in_features, out_features)
        self.kernel = nnx.Param(normal_init(config)(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32))
        self.compute_dtype = jnp.dtype(config.compute_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """X [..., I] → [..., O] in the compute type."""
        y = product(x, self.kernel[...], self.compute_dtype, self.compute_dtype)
        return add_bias(y, self.bias[...])
