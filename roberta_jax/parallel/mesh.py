"""The device mesh with the axes (data, fsdp, tensor)."""

import math
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")  # Rows of a batch are split over both.


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh over all visible devices; the axis given as -1 takes what the others leave.

    Raises:
      UserError: the sizes don't multiply to the number of devices.
    """
    num_devices = jax.device_count()
    return mesh_of(mesh_sizes(config, num_devices, f"the {num_devices} visible devices"))


def mesh_sizes(config: MeshConfig, num_devices: int, which: str) -> tuple[int, ...]:
    """Devices along the axes of the mesh; -1 takes what the others leave.

    Raises:
      UserError: they don't multiply to `num_devices`, which the message calls `which`.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, num_devices // -math.prod(sizes))
    if math.prod(sizes) != num_devices:
        raise UserError(
            f"The mesh data={config.data} x fsdp={config.fsdp} x tensor={config.tensor} does not "
            f"fill {which}. The sizes must multiply to {num_devices}; one of them may be -1 and "
            "takes what is left, for example --config.mesh.data=-1."
        )
    return tuple(sizes)


def mesh_of(sizes: tuple[int, ...], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of these sizes over the devices given, or over all that are visible."""
    # Auto axes: the compiler propagates shardings (jax.make_mesh alone gives Explicit axes).
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def num_batch_shards(mesh: Mesh) -> int:
    """Devices over which the rows of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch(batch_size: int, num_microbatches: int, mesh: Mesh) -> None:
    """Raises UserError unless every microbatch splits evenly over the mesh."""
    shards = num_batch_shards(mesh)
    if batch_size % (shards * num_microbatches):
        parts = f" in {num_microbatches} microbatches" if num_microbatches > 1 else ""
        raise UserError(
            f"A batch of {batch_size} rows{parts} cannot be split over {shards} devices. Choose a "
            f"batch size that is a multiple of {shards * num_microbatches}, or other microbatches "
            "or mesh sizes."
        )
