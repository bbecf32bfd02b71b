"""A hash that sees every bit and no sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.checkpoint.fingerprint import fingerprint


def of(array):
    return fingerprint({"x": jnp.asarray(array)})["x"]


ARRAY = np.random.Generator(np.random.Philox(key=1)).normal(size=(8, 16)).astype(np.float32)


def test_the_fingerprint_of_an_array_stays_as_it_is():
    tree = {"a": {"b": jnp.arange(6, dtype=jnp.float32).reshape(2, 3)}, "step": jnp.int32(7)}
    assert fingerprint(tree) == {"a/b": "1c25c1de", "step": "8d4cb9d9"}


@given(st.integers(0, ARRAY.nbytes * 8 - 1))
def test_one_flipped_bit_changes_it(bit):
    content = bytearray(ARRAY.tobytes())
    content[bit // 8] ^= 1 << bit % 8
    changed = np.frombuffer(bytes(content), np.float32).reshape(ARRAY.shape)
    assert of(changed) != of(ARRAY)


@given(st.permutations(range(8)))
def test_the_order_of_the_elements_changes_it(order):
    rows = ARRAY[np.array(order)]
    assert (of(rows) == of(ARRAY)) == (list(order) == list(range(8)))


def test_two_swapped_elements_and_another_shape_of_equal_rows_change_it():
    swapped = ARRAY.copy()
    swapped[3, 4], swapped[5, 6] = ARRAY[5, 6], ARRAY[3, 4]
    assert of(swapped) != of(ARRAY)
    assert of(np.zeros((4, 4), np.float32)) != of(np.zeros((4, 5), np.float32))


def test_minus_zero_is_not_zero_and_a_nan_has_a_fingerprint():
    assert of(np.float32([0.0])) != of(np.float32([-0.0]))
    assert of(np.float32([np.nan])) == of(np.float32([np.nan]))


@pytest.mark.parametrize(
    "spec", [P(), P("a"), P(None, "b"), P("a", "b"), P(("a", "b")), P(None, ("b", "a"))], ids=str
)
def test_every_sharding_gives_the_same(spec):
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    placed = jax.device_put(ARRAY, NamedSharding(mesh, spec))
    assert of(placed) == of(ARRAY)


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float16", "int32", "uint32"])
def test_types_of_one_two_and_four_bytes_are_told_apart_by_their_bits(dtype):
    array = jnp.arange(8).astype(dtype)
    assert of(array) == of(array) != of(array[::-1])


def test_a_tree_without_leaves_has_no_fingerprint_and_names_are_paths():
    assert list(fingerprint({"b": [jnp.zeros(1), jnp.ones(1)], "a": jnp.ones(1)})) == [
        *("a", "b/0", "b/1")
    ]
