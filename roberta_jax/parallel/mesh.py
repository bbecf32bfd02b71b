"""The device mesh with the axes (data, fsdp, context, tensor), and its place on the networks.

Several slices of TPUs, or several machines with GPUs, are joined by a network that is much slower
than the one inside. Only the data axis crosses it, which sends one sum of gradients a step; the
other axes send something in every layer.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError

# The later, the more is sent along it, so the nearer its devices are.
AXES = ("data", "fsdp", "context", "tensor")
BATCH_AXES = ("data", "fsdp")  # Rows of a batch are split over both.
_ATTRIBUTES = {"slice": "slice_index", "process": "process_index"}
# A part of a physical axis is as good as the whole of it where links go every way around.
_SPLIT_PHYSICAL_AXES = ("TPU v5 lite", "TPU v5e")


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh over all visible devices; the axis given as -1 takes what the others leave.

    Raises:
      UserError: the sizes don't multiply to the number of devices, or more than the data axis would
        cross the network between slices.
    """
    num_devices = jax.device_count()
    sizes = mesh_sizes(config, num_devices, f"the {num_devices} visible devices")
    return mesh_of(sizes, granule=config.granule)


def mesh_sizes(config: MeshConfig, num_devices: int, which: str) -> tuple[int, ...]:
    """Devices along AXES; -1 takes what the others leave.

    Raises:
      UserError: they don't multiply to `num_devices`, which the message calls `which`.
    """
    sizes = [config.data, config.fsdp, config.context, config.tensor]  # As AXES.
    given = mesh_text(dict(zip(AXES, sizes, strict=True)))
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, num_devices // -math.prod(sizes))
    if math.prod(sizes) != num_devices:
        raise UserError(
            f"The mesh {given} does not fill {which}. The sizes must multiply to {num_devices}; "
            "one of them may be -1 and takes what is left, for example --config.mesh.data=-1."
        )
    return tuple(sizes)


def mesh_text(sizes: Mapping[str, int]) -> str:
    """Sizes of the axes as a message has them; the context axis only where it is used."""
    axes = ["data", "fsdp", "tensor"] + ["context"] * (sizes["context"] != 1)
    return " x ".join(f"{axis}={sizes[axis]}" for axis in axes)


def mesh_of(
    sizes: tuple[int, ...],
    devices: Sequence[jax.Device] | None = None,
    *,
    granule: str = "auto",
) -> Mesh:
    """A mesh of these sizes of AXES over the devices given, or over all that are visible.

    Raises:
      UserError: as for `device_grid`.
    """
    grid = device_grid(sizes, jax.devices() if devices is None else devices, granule)
    # Auto axes: the compiler propagates shardings.
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def device_grid(sizes: tuple[int, ...], devices: Sequence[Any], granule: str) -> np.ndarray:
    """Devices in the order of a mesh.

    Args:
      sizes: of AXES; they multiply to the number of devices.
      devices: of jax, or what has their attributes.
      granule: as `MeshConfig.granule`.

    Returns:
      An array of devices of shape `sizes`. Those of one granule stand together along the data axis;
      groups along the other axes are inside a granule.

    Raises:
      UserError: the devices don't tell their granule, or the data axis alone cannot cross them.
    """
    granules = _granules(devices, granule)
    if len(granules) == 1:
        return _grid(sizes, granules[0])
    mesh, counts = dict(zip(AXES, sizes, strict=True)), sorted({len(each) for each in granules})
    name = "processes" if granule == "process" else "slices"
    if len(counts) > 1:
        raise UserError(
            f"The {len(granules)} {name} have unlike numbers of devices: from {counts[0]} to "
            f"{counts[-1]}. A mesh needs as many of each."
        )
    if mesh["data"] % len(granules):
        raise UserError(
            f"The mesh {mesh_text(mesh)} does not fit {len(granules)} {name} of {counts[0]} "
            "devices: along another axis than data it would cross the slow network between them in "
            f"every layer. Choose mesh.data as a multiple of {len(granules)}, and the other sizes "
            f"so that their product divides {counts[0]}."
        )
    inside = (sizes[0] // len(granules), *sizes[1:])
    return np.concatenate([_grid(inside, each) for each in granules])


def _granules(devices: Sequence[Any], granule: str) -> list[list[Any]]:
    """The devices by what a fast network joins."""
    if granule == "auto":
        # Those of GPUs are machines; whether their network is slow, only the user knows.
        several = devices[0].platform == "tpu" and hasattr(devices[0], "slice_index")
        granule = "slice" if several else ""
    if not granule:
        return [list(devices)]
    attribute = _ATTRIBUTES[granule]
    if not hasattr(devices[0], attribute):
        raise UserError(
            f"mesh.granule is {granule}, and these devices ({devices[0].device_kind}) do not tell "
            "theirs. Use mesh.granule=process, or auto for no bounds."
        )
    groups: dict[int, list[Any]] = collections.defaultdict(list)
    for device in devices:
        groups[getattr(device, attribute)].append(device)
    return [groups[number] for number in sorted(groups)]


def _grid(sizes: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
    """Devices of one network, neighbours along the last axes."""
    split = devices[0].device_kind in _SPLIT_PHYSICAL_AXES
    try:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=split)
    except NotImplementedError:  # No whole physical axes have these sizes.
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)


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
