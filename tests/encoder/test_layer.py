import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.encoder.layer import Layer, gelu
from tests.encoder import reference
from tests.encoder.tiny import (
    CONFIG,
    WITHOUT_DROPOUT,
    dropped,
    functional,
    generator,
    wide,
)

KEYS = np.array([11, 22, 33], np.uint32)


def make(config=CONFIG):
    params, run = functional(lambda: Layer(config, rngs=nnx.Rngs(0)))
    return params, jax.jit(lambda params, x, real, keys=None: run(params, x, real, keys))


def inputs():
    x = generator(2).standard_normal((3, 7, CONFIG.hidden_size)).astype(np.float32)
    real = np.ones((3, 7), bool)
    real[1, 4:] = real[2, 1] = False
    return x, real


@given(st.floats(-12, 12, width=32))
def test_gelu_is_x_times_the_exact_normal_distribution_function(x):
    # The tanh form is up to 4.7e-4 off.
    exact = x * 0.5 * math.erfc(-x / math.sqrt(2))
    np.testing.assert_allclose(jax.jit(gelu)(np.float32(x)), exact, rtol=0, atol=1e-6)


def test_the_gradient_of_gelu_is_that_of_numpy():
    x = np.linspace(-12, 12, 2001)
    step = 1e-6
    expected = (reference.gelu(x + step) - reference.gelu(x - step)) / (2 * step)
    gradient = jax.jit(jax.vmap(jax.grad(gelu)))(x.astype(np.float32))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-6)


def test_gelu_of_sixteen_bits_is_computed_in_float32():
    x = jnp.linspace(-5, 5, 501).astype(jnp.bfloat16)
    y, pullback = jax.vjp(gelu, x)
    (gradient,) = pullback(jnp.ones_like(x))
    assert y.dtype == gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), reference.gelu(wide(x)), rtol=2**-8, atol=1e-6)


def test_layer_norm_comes_after_each_sublayer():
    params, run = make()
    x, real = inputs()
    expected = reference.layer(wide(x), real, wide(params), CONFIG.num_heads)
    np.testing.assert_allclose(run(params, x, real), expected, rtol=0, atol=1e-5)


def test_dropout_falls_on_probabilities_sublayers_and_activation_with_keys_of_their_own():
    params, run = make()
    x, real = inputs()
    drop = dropped(KEYS, CONFIG, in_layer=True)
    expected = reference.layer(wide(x), real, wide(params), CONFIG.num_heads, drop)
    np.testing.assert_allclose(run(params, x, real, KEYS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "rate", ["dropout_rate", "attention_dropout_rate", "activation_dropout_rate"]
)
def test_each_rate_can_be_the_only_one(rate):
    rates = {**WITHOUT_DROPOUT, rate: 0.5}
    config = dataclasses.replace(CONFIG, **rates)
    params, run = make(config)
    x, real = inputs()
    drop = dropped(KEYS, config, in_layer=True)
    expected = reference.layer(wide(x), real, wide(params), CONFIG.num_heads, drop)
    found = run(params, x, real, KEYS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert not np.allclose(found, run(params, x, real), atol=1e-2)


def test_without_rates_keys_change_nothing_and_the_embedding_has_its_own_rate():
    config = dataclasses.replace(CONFIG, **{**WITHOUT_DROPOUT, "embedding_dropout_rate": 0.5})
    params, run = make(config)
    x, real = inputs()
    np.testing.assert_array_equal(run(params, x, real, KEYS), run(params, x, real))
