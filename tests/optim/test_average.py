import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.optim.average import update_average

update = jax.jit(update_average, static_argnames="decay")


def average_after(weights, decay, first=0.0):
    average = {"head": {"bias": jnp.float32(first)}}
    for number, weight in enumerate(weights):
        average = update(
            average,
            {"head": {"bias": jnp.float32(weight)}},
            num_updates=jnp.int32(number),
            decay=decay,
        )
    return average["head"]["bias"]


def test_the_first_averages_forget_the_initial_weights_soon():
    np.testing.assert_allclose(average_after([1], 0.999), 9 / 10, rtol=1e-6)
    np.testing.assert_allclose(
        average_after([1, 2], 0.999), 2 / 11 * 9 / 10 + 9 / 11 * 2, rtol=1e-6
    )


@pytest.mark.parametrize(("updates_before", "expected"), [(7, 8 / 17), (8, 0.5), (9, 0.5)])
def test_decay_is_the_most_that_an_average_keeps(updates_before, expected):
    found = update_average(
        {"a": jnp.ones(3)}, {"a": jnp.zeros(3)}, num_updates=jnp.int32(updates_before), decay=0.5
    )
    np.testing.assert_allclose(found["a"], np.full(3, expected), rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_many_updates_are_those_of_numpy(decay):
    weights = np.random.Generator(np.random.Philox(key=1)).standard_normal(300) + 5
    expected = 0.0
    for number, weight in enumerate(weights):
        kept = min(decay, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * weight
    np.testing.assert_allclose(average_after(weights, decay), expected, rtol=1e-6)


def test_far_into_the_run_a_decay_near_1_keeps_its_digits():
    found = update_average(
        {"a": jnp.zeros(())}, {"a": jnp.ones(())}, num_updates=jnp.int32(2**30), decay=0.99999
    )
    np.testing.assert_allclose(found["a"], 1e-5, rtol=1e-6)


def test_the_average_of_what_stays_the_same_is_exactly_that():
    weights = {"a": jnp.linspace(-3.0, 7.0, 101), "b": {"c": jnp.float32(0.1)}}
    found = update(weights, weights, num_updates=jnp.int32(3), decay=0.9999)
    jax.tree.map(np.testing.assert_array_equal, found, weights)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
