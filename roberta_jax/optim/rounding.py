"""Rounding float32 to bfloat16 at random, up or down, such that the expectation is exact.

To the nearest, a moment that changes by less than half of bfloat16's spacing (0.4%) per update
would never change: with beta2 = 0.999 it changes by 0.1%.

The random bits are a hash of (key, place in the array), computed elementwise: they depend neither
on the number of devices nor on how the array is split over them.
"""

import math

import jax
import jax.numpy as jnp

from roberta_jax.encoder.dropout import mix


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 of `shape`, a function of the key (uint32 scalar) and of the row-major index."""
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    return mix(mix(index) + mix(key))


def round_to_bfloat16(x: jax.Array, bits: jax.Array) -> jax.Array:
    """One of the two neighbours in bfloat16, the nearer one more often: unbiased.

    Args:
      x: float32.
      bits: uint32 like x, of which the lower 16 are used.

    Returns:
      bfloat16 like x. Infinity and NaN stay what they are; what is finite stays finite.
    """
    pattern = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # bfloat16 is the upper half of float32: a carry out of the lower half is a step up.
    rounded = _upper_half(pattern + (bits & 0xFFFF))
    rounded = jnp.where(jnp.isinf(rounded), _upper_half(pattern), rounded)
    # The upper half of a NaN may be that of an infinity.
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))


def _upper_half(pattern: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type((pattern >> 16).astype(jnp.uint16), jnp.bfloat16)
