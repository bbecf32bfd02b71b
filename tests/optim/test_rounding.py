import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import MeshConfig
from roberta_jax.optim.rounding import random_bits, round_to_bfloat16
from roberta_jax.parallel.mesh import make_mesh

LARGEST = float(np.finfo(np.float32).max)
LARGEST_BFLOAT16 = float(jnp.finfo(jnp.bfloat16).max)
# mix(mix(index) + mix(1)), computed in Python's integers.
GOLDEN = [[1492470133, 305810056, 2074548900], [1403877986, 2039046218, 3214368018]]
round_all = jax.jit(round_to_bfloat16)


def rounded(x, bits):
    return float(round_all(jnp.float32(x), jnp.uint32(bits)))


@given(st.floats(width=32, allow_nan=False), st.integers(0, 2**32 - 1))
def test_a_number_becomes_one_of_its_two_neighbours(x, bits):
    down = np.float32(x).view(np.uint32) & np.uint32(0xFFFF0000)
    neighbours = {float(down.view(np.float32))}
    if abs(x) < LARGEST_BFLOAT16 and down != np.float32(x).view(np.uint32):
        neighbours.add(float((down + np.uint32(0x10000)).view(np.float32)))
    assert rounded(x, bits) in neighbours


@given(st.floats(width=16, allow_nan=False, allow_subnormal=False), st.integers(0, 2**32 - 1))
def test_what_bfloat16_has_stays_as_it_is(x, bits):
    x = float(jnp.bfloat16(x))
    assert rounded(x, bits) == x


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bits", [0, 0x7FFF, 0xFFFF, 0xFFFFFFFF])
def test_what_is_finite_stays_finite_and_what_is_not_stays_what_it_is(sign, bits):
    assert rounded(sign * LARGEST, bits) == sign * LARGEST_BFLOAT16
    assert rounded(sign * np.inf, bits) == sign * np.inf
    assert np.isnan(rounded(np.nan, bits))
    # A NaN all of whose marks are in the half that is cut off.
    pattern = jnp.uint32(0x7F800001 | (0x80000000 if sign < 0 else 0))
    hidden = jax.lax.bitcast_convert_type(pattern, jnp.float32)
    assert np.isnan(float(round_all(hidden, jnp.uint32(bits))))


def test_zero_and_its_sign_stay():
    assert np.copysign(1, rounded(-0.0, 0xFFFF)) == -1
    assert rounded(0.0, 0xFFFF) == 0


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [1.0, -1.0, 1e-20, 3e30])
def test_the_mean_of_many_is_the_number(part, size):
    spacing = 2.0**-7
    x = jnp.full((256, 1024), size * (1 + part * spacing), jnp.float32)
    found = np.asarray(round_all(x, random_bits(jnp.uint32(7), x.shape)), np.float64)
    # At most five standard deviations of a mean of 2^18 that are a spacing apart.
    step = 2.0 ** (np.floor(np.log2(abs(size))) - 7)
    np.testing.assert_allclose(found.mean(), float(x[0, 0]), rtol=0, atol=5 * 0.5 * step / 2**9)
    assert len(np.unique(found)) <= 2


def test_the_bits_are_golden():
    found = np.asarray(random_bits(jnp.uint32(1), (2, 3)))
    np.testing.assert_array_equal(found, GOLDEN)
    # The index counts along rows: the shape itself does not matter.
    np.testing.assert_array_equal(random_bits(jnp.uint32(1), (6,)), found.ravel())
    np.testing.assert_array_equal(random_bits(jnp.uint32(1), (1, 3, 2)).ravel(), found.ravel())
    assert random_bits(jnp.uint32(1), ()) == found[0, 0]


def test_bits_of_neighbours_and_of_different_keys_have_nothing_to_do_with_each_other():
    bits = np.stack([np.asarray(random_bits(jnp.uint32(key), (1 << 16,))) for key in range(4)])
    low = (bits & 0xFFFF) / 2.0**16 - 0.5
    pairs = [(low[0], low[1]), (low[2], low[3]), (low[0, :-1], low[0, 1:]), (low[0], low[3])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / 2**8
    np.testing.assert_allclose(low.mean(1), 0, atol=5 * 12**-0.5 / 2**8)


@pytest.mark.parametrize("spec", [P(), P("data"), P(None, "tensor"), P(("data", "fsdp"), "tensor")])
def test_the_bits_do_not_depend_on_the_sharding(spec):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    expected = np.asarray(random_bits(jnp.uint32(5), (8, 6)))
    split = jax.jit(
        lambda: random_bits(jnp.uint32(5), (8, 6)), out_shardings=NamedSharding(mesh, spec)
    )
    np.testing.assert_array_equal(split(), expected)
