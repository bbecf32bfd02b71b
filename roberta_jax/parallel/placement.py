"""NumPy batches → arrays on the mesh, a few batches ahead of the step that needs them."""

import collections
import contextlib
import dataclasses
from collections.abc import Generator
from typing import Any

import jax
from jax.sharding import Mesh

from roberta_jax.parallel.tables import batch_sharding


def place(batch: Any, mesh: Mesh) -> dict[str, jax.Array]:
    """The fields of a dataclass of NumPy arrays as global arrays, split by row.

    Every process passes its own rows; the global array has the rows of all processes. A field that
    is None is left out.
    """
    sharding = batch_sharding(mesh)
    return {
        field.name: jax.make_array_from_process_local_data(sharding, rows)
        for field in dataclasses.fields(batch)
        if (rows := getattr(batch, field.name)) is not None
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
