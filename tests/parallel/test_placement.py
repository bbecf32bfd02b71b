import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import MeshConfig
from roberta_jax.parallel import placement
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.placement import place, placed_ahead, rows_here


@dataclasses.dataclass(frozen=True)
class Rows:
    tokens: np.ndarray
    index: np.ndarray


def batch(number):
    tokens = np.arange(8 * 3, dtype=np.int32).reshape(8, 3) + 1000 * number
    return Rows(tokens, np.arange(8, dtype=np.uint32) + 8 * number)


def mesh_of(*sizes):
    data, fsdp, tensor = sizes
    return make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor))


class Source:
    """Batches that count how many of them were taken."""

    def __init__(self, number):
        self.number, self.taken, self.closed = number, 0, False

    def close(self):
        self.closed = True

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == self.number:
            raise StopIteration
        self.taken += 1
        return batch(self.taken - 1)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 1, 8)])
def test_the_fields_become_global_arrays_split_by_row(sizes):
    mesh = mesh_of(*sizes)
    placed = place(batch(1), mesh)
    assert list(placed) == ["tokens", "index"]
    for name, array in placed.items():
        expected = getattr(batch(1), name)
        assert isinstance(array, jax.Array) and array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
        assert array.sharding.is_equivalent_to(NamedSharding(mesh, P(("data", "fsdp"))), array.ndim)
        rows = 8 // (sizes[0] * sizes[1])
        for shard in array.addressable_shards:
            assert shard.data.shape == (rows, *expected.shape[1:])
            np.testing.assert_array_equal(shard.data, expected[shard.index])


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 1, 8)])
def test_one_process_holds_all_rows(sizes):
    assert rows_here(mesh_of(*sizes), 16).tolist() == list(range(16))


def test_a_process_holds_the_rows_of_its_devices(monkeypatch):
    """Devices of parts 1 and 6 of 8, and of part 1 again: weights split over processes."""
    whole = placement.batch_sharding

    class OfSomeDevices:
        def __init__(self, mesh):
            self.sharding = whole(mesh)

        def addressable_devices_indices_map(self, shape):
            slices = list(self.sharding.addressable_devices_indices_map(shape).values())
            return dict(enumerate((slices[6], slices[1], slices[1])))

    monkeypatch.setattr(placement, "batch_sharding", OfSomeDevices)
    assert rows_here(mesh_of(8, 1, 1), 24).tolist() == [3, 4, 5, 18, 19, 20]


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("number", [0, 1, 4, 9])
def test_all_batches_come_in_order_and_then_it_ends(number, ahead):
    placed = placed_ahead(Source(number), mesh_of(8, 1, 1), ahead=ahead)
    indices = [np.asarray(item["index"])[0] for item in placed]
    assert indices == [8 * n for n in range(number)]
    with pytest.raises(StopIteration):
        next(placed)


@pytest.mark.parametrize("ahead", [1, 3])
def test_as_many_batches_are_on_their_way_as_was_asked(ahead):
    source = Source(10)
    placed = placed_ahead(source, mesh_of(8, 1, 1), ahead=ahead)
    assert source.taken == 0  # Nothing is read before it is asked for.
    for count in range(1, 11):
        next(placed)
        assert source.taken == min(count + ahead, 10)


def test_closing_it_closes_the_source():
    source = Source(10)
    placed = placed_ahead(source, mesh_of(8, 1, 1), ahead=1)
    next(placed)
    assert not source.closed
    placed.close()
    assert source.closed


def test_an_error_of_the_source_reaches_the_reader():
    def broken():
        yield batch(0)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(placed_ahead(broken(), mesh_of(8, 1, 1), ahead=1))
