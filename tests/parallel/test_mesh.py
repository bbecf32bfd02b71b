import re

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType

from roberta_jax.config import MeshConfig
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import check_batch, make_mesh, num_batch_shards


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
    assert dict(mesh.shape) == dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))
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
