"""NumPy batches → arrays on the mesh, a few batches ahead of the step that needs them."""

import collections
import contextlib
import dataclasses
from collections.abc import Generator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from roberta_jax.parallel.mesh import num_batch_shards
from roberta_jax.parallel.tables import batch_sharding


def rows_here(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Which rows of a global batch the devices of this process hold, in order.

    Where a row lies on devices of several processes (a mesh that splits weights over them), each of
    them holds it.

    Args:
      mesh: the devices of all processes.
      batch_size: rows of the global batch, a multiple of `num_batch_shards(mesh)`.

    Returns:
      [b] int64.
    """
    each = batch_size // num_batch_shards(mesh)
    return (_shards_here(mesh)[:, None] * each + np.arange(each)).reshape(-1)


def _shards_here(mesh: Mesh) -> np.ndarray:
    """Which of the equal parts of a batch lie here: [s] int64, in order."""
    count = num_batch_shards(mesh)
    held = np.zeros(count, bool)
    for index in batch_sharding(mesh).addressable_devices_indices_map((count,)).values():
        assert index is not None
        held[index] = True
    return np.flatnonzero(held)


def place(batch: Any, mesh: Mesh) -> dict[str, jax.Array]:
    """The fields of a dataclass of NumPy arrays as global arrays, split by row.

    Args:
      batch: arrays [b, …] of the `rows_here`; a field that is None is left out.
      mesh: the devices of all processes.

    Returns:
      Arrays [B, …] of all rows, of which every process holds its part.
    """
    sharding, here = batch_sharding(mesh), _shards_here(mesh)

    def whole(array: np.ndarray) -> jax.Array:
        each = len(array) // len(here)

        def piece(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            first = int(np.searchsorted(here, (index[0].start or 0) // each)) * each
            return array[first : first + each]

        shape = (each * num_batch_shards(mesh), *array.shape[1:])
        return jax.make_array_from_callback(shape, sharding, piece)

    return {
        field.name: whole(array)
        for field in dataclasses.fields(batch)
        if (array := getattr(batch, field.name)) is not None
    }


def placed_ahead(
    batches: Generator[Any], mesh: Mesh, *, ahead: int
) -> Generator[dict[str, jax.Array]]:
    """Yields placed batches while the next `ahead` are already on their way to the devices.

    Closing it closes `batches`.
    """
    queue: collections.deque[dict[str, jax.Array]] = collections.deque()
    with contextlib.closing(batches):
        for batch in batches:
            queue.append(place(batch, mesh))
            if len(queue) > ahead:
                yield queue.popleft()
        while queue:
            yield queue.popleft()
