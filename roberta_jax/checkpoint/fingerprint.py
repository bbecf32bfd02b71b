"""A hash of array contents, computed on the devices, the same for every sharding.

Orbax checksums its index but not the payload: a flipped bit in array data can be restored as a
wrong weight without an error. The fingerprint is stored with the checkpoint and compared after
every restore.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _row_major_index(shape: tuple[int, ...]) -> jax.Array:
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    return index


def _leaf_fingerprint(x: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, _UNSIGNED[x.dtype.itemsize]).astype(jnp.uint32)
    # An exact sum of integers: no order of reduction changes it.
    return jnp.sum(_mix(bits ^ _mix(_row_major_index(x.shape) + 1)), dtype=jnp.uint32)


def _fingerprints(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_leaf_fingerprint(leaf) for leaf in leaves])


_on_one_device = jax.jit(_fingerprints)


@functools.cache
def _over_mesh(mesh: Mesh) -> Callable[[list[jax.Array]], jax.Array]:
    # Whole on every device, so that each process can read it.
    return jax.jit(_fingerprints, out_shardings=NamedSharding(mesh, P()))


def fingerprint(tree: Any) -> dict[str, str]:
    """Path of each leaf → 8 hex digits; leaves have 1, 2 or 4 bytes per element."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays = [leaf for _, leaf in leaves]
    sharding = getattr(arrays[0], "sharding", None) if arrays else None
    compute = _over_mesh(sharding.mesh) if isinstance(sharding, NamedSharding) else _on_one_device
    values = jax.device_get(compute(arrays))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{int(value):08x}"
        for (path, _), value in zip(leaves, values, strict=True)
    }
