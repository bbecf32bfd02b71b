"""Dropout whose mask is a pure function of (row key, place in the network, place in the row).

A row's key depends on (seed, step, row of the global batch) only, so the mask is the same on any
number of devices and for any division into microbatches. The bits come from an integer hash that
XLA fuses into the surrounding elementwise code; nothing is stored for the backward pass, which
computes the mask again.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit moves every output bit (lowbias32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def row_keys(seed: int | jax.Array, step: jax.Array, num_rows: int) -> jax.Array:
    """One dropout key for each row of the global batch of this step: [num_rows] uint32."""
    step_key = mix(mix(jnp.uint32(seed) + jnp.uint32(0x9E3779B9)) ^ step.astype(jnp.uint32))
    return mix(step_key + mix(jnp.arange(num_rows, dtype=jnp.uint32)))


def site_keys(keys: jax.Array | None, site: Any) -> jax.Array | None:
    """Keys [B] for one site of the network, given by a number (a Python int or a traced one)."""
    if keys is None:
        return None
    return mix(keys + mix(jnp.asarray(site, jnp.uint32) + jnp.uint32(0x85EBCA6B)))


def keep_mask(keys: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """The kept places [B, …, C] bool; each is kept with probability 1 - rate.

    What happens to a place does not depend on how long the axes are: rows that are filled up
    further keep their masks. There are up to two axes between the first and the last.
    """
    places = mix(_place_numbers(shape[1:-1]))[None, ..., None]
    rows = mix(keys.reshape(-1, *(1,) * (len(shape) - 1)) + places)  # [B, …, 1]
    columns = mix(jnp.arange(shape[-1], dtype=jnp.uint32) + jnp.uint32(0xC2B2AE35))  # [C]
    return mix(rows + columns) >= np.uint32(round(rate * 2**32))


def _place_numbers(shape: tuple[int, ...]) -> jax.Array:
    """A number of its own for every place of the axes in the middle, uint32 of that shape."""
    if len(shape) < 2:
        return jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    outer, inner = shape  # Such as heads and queries of attention.
    assert max(shape) <= 1 << 16
    # 2^16 apart, whatever the length of the inner axis is.
    rows = jnp.arange(outer, dtype=jnp.uint32)[:, None] << 16
    return rows + jnp.arange(inner, dtype=jnp.uint32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dropout(x: jax.Array, keys: jax.Array, rate: float) -> jax.Array:
    # Scaled in float32: in bfloat16, 1 / 0.9 would be 1.109.
    scaled = (x.astype(jnp.float32) * (1 / (1 - rate))).astype(x.dtype)
    return jnp.where(keep_mask(keys, x.shape, rate), scaled, jnp.zeros((), x.dtype))


def _dropout_forward(x: jax.Array, keys: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    return _dropout(x, keys, rate), keys


def _dropout_backward(rate: float, keys: jax.Array, cotangent: jax.Array) -> tuple[Any, Any]:
    no_gradient = np.zeros(keys.shape, jax.dtypes.float0)  # Of integers.
    return _dropout(cotangent, keys, rate), no_gradient


_dropout.defvjp(_dropout_forward, _dropout_backward)


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
    """Zeroes each element of x [B, …, C] with probability `rate` and scales the rest by 1/(1-rate).

    Args:
      x: rows of any shape.
      keys: [B] uint32, or None for no dropout (evaluation).
      rate: in [0, 1).
    """
    if keys is None or rate == 0:
        return x
    return _dropout(x, keys, rate)
