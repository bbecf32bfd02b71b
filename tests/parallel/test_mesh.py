import dataclasses
import re

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental import mesh_utils
from jax.sharding import AxisType

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import (
    AXES,
    check_batch,
    device_grid,
    make_mesh,
    mesh_sizes,
    num_batch_shards,
)


def mesh_of(data, fsdp, tensor):
    return make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor))


@pytest.mark.parametrize(
    ("given_sizes", "sizes"),
    [
        ((8, 1, 1), (8, 1, 1)),
        ((-1, 1, 1), (8, 1, 1)),
        ((2, 2, 2), (2, 2, 2)),
        ((-1, 2, 2), (2, 2, 2)),
        ((2, -1, 1), (2, 4, 1)),
        ((1, 1, -1), (1, 1, 8)),
        ((4, -1, 2), (4, 1, 2)),
    ],
)
def test_minus_1_takes_the_devices_that_the_other_axes_leave(given_sizes, sizes):
    mesh = mesh_of(*given_sizes)
    data, fsdp, tensor = sizes
    assert mesh.axis_names == AXES
    assert dict(mesh.shape) == {"data": data, "fsdp": fsdp, "context": 1, "tensor": tensor}
    assert set(mesh.devices.flat) == set(jax.devices())
    # Explicit axes would ask for a sharding in every operation.
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(
    "sizes", [(3, 1, 1), (1, 1, 1), (16, 1, 1), (2, 2, 1), (-1, 3, 1), (-1, 16, 1), (3, 3, -1)]
)
def test_sizes_that_do_not_fill_the_devices_are_an_error(sizes):
    with pytest.raises(UserError) as error:
        mesh_of(*sizes)
    message = str(error.value)
    # What was given, what is allowed, what to do.
    assert "data={} x fsdp={} x tensor={}".format(*sizes) in message
    assert "8 visible devices" in message and "multiply to 8" in message
    assert "--config.mesh.data=-1" in message


def test_the_context_axis_takes_its_devices_and_is_named_where_it_is_used():
    assert mesh_sizes(MeshConfig(context=4), 8, "") == (2, 1, 4, 1)
    assert mesh_sizes(MeshConfig(data=2, context=-1, tensor=2), 8, "") == (2, 1, 2, 2)
    assert num_batch_shards(make_mesh(MeshConfig(fsdp=2, context=2))) == 4
    with pytest.raises(UserError, match="data=1 x fsdp=1 x tensor=1 x context=3 does not fill it"):
        mesh_sizes(MeshConfig(data=1, context=3), 8, "it")


@pytest.mark.parametrize(
    ("sizes", "shards"), [((8, 1, 1), 8), ((2, 2, 2), 4), ((1, 4, 2), 4), ((1, 1, 8), 1)]
)
def test_rows_are_split_over_data_and_fsdp_but_not_over_tensor(sizes, shards):
    assert num_batch_shards(mesh_of(*sizes)) == shards


@given(st.integers(1, 10), st.integers(1, 10))
def test_a_batch_fits_where_every_microbatch_divides_by_the_shards(rows, num_microbatches):
    mesh = mesh_of(2, 2, 2)
    if rows % 4 == 0:
        check_batch(rows * num_microbatches, num_microbatches, mesh)
        return
    with pytest.raises(UserError) as error:
        check_batch(rows * num_microbatches, num_microbatches, mesh)
    message = str(error.value)
    parts = f" in {num_microbatches} microbatches" if num_microbatches > 1 else ""
    wanted = f"A batch of {rows * num_microbatches} rows{parts} cannot be split over 4 devices"
    assert wanted in message
    # What the message advises is accepted.
    (multiple,) = re.findall(r"a multiple of (\d+)", message)
    check_batch(3 * int(multiple), num_microbatches, mesh)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh asks of a device."""

    id: int
    process_index: int
    slice_index: int
    coords: tuple[int, ...]
    platform: str = "tpu"
    device_kind: str = "TPU v4"
    core_on_chip: int = 0


def chips(num_slices, width=4, height=2, **others):
    """Slices of width x height chips, 4 to a process, numbered along the slices in turn."""
    return [
        Chip(
            id=number * num_slices + part,
            process_index=(part * width * height + number) // 4,
            slice_index=part,
            coords=(number % width, number // width, 0),
            **others,
        )
        for number in range(width * height)
        for part in range(num_slices)
    ]


# Data, fsdp, context and tensor over 4 slices of 8.
OVER_SLICES = [
    (32, 1, 1, 1),
    (16, 2, 1, 1),
    (4, 8, 1, 1),
    (4, 2, 2, 2),
    (8, 1, 1, 4),
    (8, 1, 4, 1),
    (4, 4, 1, 2),
]


@pytest.mark.parametrize("sizes", OVER_SLICES, ids=str)
@pytest.mark.parametrize("kind", ["TPU v4", "TPU v5 lite", "TPU v5p", "unheard of"])
def test_only_the_data_axis_crosses_slices(sizes, kind):
    devices = chips(4, device_kind=kind)
    grid = device_grid(sizes, devices, "auto")
    assert grid.shape == sizes and set(grid.flat) == set(devices)
    for place, part in enumerate(grid):
        # One slice at each place of the data axis, and the slices one after the other.
        assert {chip.slice_index for chip in part.flat} == {place * 4 // sizes[0]}


def test_within_a_slice_the_devices_are_as_in_a_mesh_of_the_slice_alone():
    devices = chips(2)
    grid = device_grid((4, 2, 1, 2), devices, "auto")
    for number in range(2):
        alone = [chip for chip in devices if chip.slice_index == number]
        inside = mesh_utils.create_device_mesh((2, 2, 1, 2), alone, allow_split_physical_axes=True)
        assert (grid[2 * number : 2 * number + 2] == inside).all()


def test_with_one_slice_the_devices_are_where_jax_puts_them():
    devices = chips(1, width=4, height=4)
    sizes = (4, 1, 1, 4)
    wanted = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=False)
    assert (device_grid(sizes, devices, "auto") == wanted).all()
    theirs = jax.make_mesh((2, 2, 1, 2), AXES, axis_types=(AxisType.Auto,) * 4)
    assert make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)) == theirs


def test_sizes_that_are_no_whole_physical_axes_split_them():
    devices = chips(1, width=4, height=4)
    with pytest.raises(NotImplementedError):
        mesh_utils.create_device_mesh((8, 1, 1, 2), devices)
    assert device_grid((8, 1, 1, 2), devices, "auto").shape == (8, 1, 1, 2)


@pytest.mark.parametrize("sizes", [(1, 32, 1, 1), (2, 1, 1, 16), (2, 1, 16, 1), (2, 4, 2, 2)])
def test_a_mesh_that_would_cross_slices_in_every_layer_is_refused(sizes):
    with pytest.raises(UserError) as error:
        device_grid(sizes, chips(4), "auto")
    message = str(error.value)
    assert "does not fit 4 slices of 8 devices" in message
    assert "mesh.data as a multiple of 4" in message and "divides 8" in message
    assert f"data={sizes[0]} x fsdp={sizes[1]} x tensor={sizes[3]}" in message
    # On one slice of as many devices, or on GPUs whose network the user knows, it is fine.
    for others in (chips(1, width=8, height=4), chips(4, platform="gpu", device_kind="H100")):
        assert device_grid(sizes, others, "auto").shape == sizes


def test_on_gpus_a_process_or_a_slice_bounds_the_other_axes_when_asked():
    gpus = chips(2, platform="gpu", device_kind="H100")  # 16, in 4 processes and 2 slices.
    for granule, attribute, number in (
        ("process", "process_index", 4),
        ("slice", "slice_index", 2),
    ):
        grid = device_grid((number, 16 // number, 1, 1), gpus, granule)
        for place, part in enumerate(grid):
            assert {getattr(chip, attribute) for chip in part.flat} == {place}
        with pytest.raises(UserError, match="does not fit"):
            device_grid((1, 16, 1, 1), gpus, granule)
    with pytest.raises(UserError, match="does not fit 4 processes of 4 devices"):
        device_grid((2, 8, 1, 1), gpus, "process")


def test_slices_of_unlike_sizes_are_refused():
    with pytest.raises(UserError, match="2 slices have unlike numbers of devices: from 4 to 8"):
        device_grid(
            (12, 1, 1, 1),
            chips(2)[:8] + [chip for chip in chips(2)[8:] if chip.slice_index],
            "auto",
        )


def test_devices_that_do_not_tell_their_slice_are_refused_where_it_is_asked_for():
    with pytest.raises(UserError, match="mesh.granule is slice, and these devices"):
        make_mesh(MeshConfig(granule="slice"))
    assert make_mesh(MeshConfig(granule="process")) == make_mesh(MeshConfig())
