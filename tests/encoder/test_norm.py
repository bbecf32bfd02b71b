import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.norm import LayerNorm, normalize
from tests.encoder.tiny import generator

X = (3, 5, 16)


def expected(x, scale, bias, epsilon):
    x = np.asarray(x, np.float64)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias


def draw(seed, spread=1.0, mean=0.0):
    source = generator(seed)
    x = (mean + spread * source.standard_normal(X)).astype(np.float32)
    scale, bias = source.standard_normal((2, X[-1])).astype(np.float32)
    return x, scale, bias


@jax.jit
def norm32(x, scale, bias):
    return normalize(x, scale, bias, 1e-5, jnp.float32)


@pytest.mark.parametrize("spread", [10.0, 1.0, 3e-3, 1e-4])
def test_values_are_those_of_numpy_for_variances_above_and_below_epsilon(spread):
    x, scale, bias = draw(1, spread)
    np.testing.assert_allclose(
        norm32(x, scale, bias), expected(x, scale, bias, 1e-5), rtol=0, atol=5e-6
    )


def test_a_large_mean_does_not_cancel():
    # With E[x²] - E[x]² in float32 the variance, 1, would drown in 2000² · 6e-8 = 0.24.
    x, scale, bias = draw(2, mean=2000.0)
    np.testing.assert_allclose(
        norm32(x, scale, bias), expected(x, scale, bias, 1e-5), rtol=0, atol=1e-3
    )


@given(st.integers(0, 2**32), st.integers(-64, 64))
def test_a_constant_added_to_a_row_changes_nothing(seed, constant):
    x, scale, bias = draw(seed)
    np.testing.assert_allclose(
        norm32(x, scale, bias), norm32(x + constant, scale, bias), rtol=0, atol=5e-5
    )


@pytest.mark.parametrize("spread", [1.0, 3e-3])
def test_gradients_are_those_of_the_parts(spread):
    x, scale, bias = draw(3, spread)
    cotangent = generator(4).standard_normal(X).astype(np.float32)

    def plain(x, scale, bias):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return centred / jnp.sqrt(variance + 1e-5) * scale + bias

    for index in range(3):
        ours, theirs = (
            jax.jit(jax.grad(lambda *a, f=f: jnp.vdot(f(*a), cotangent), argnums=index))(
                x, scale, bias
            )
            for f in (norm32, plain)
        )
        size = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 * size, err_msg=f"{index}")


def test_sixteen_bit_rows_are_normalised_in_float32():
    x, scale, bias = draw(5, mean=3.0)
    low = x.astype(jnp.bfloat16)
    y = normalize(low, scale, bias, 1e-5, jnp.bfloat16)
    assert y.dtype == jnp.bfloat16
    # One rounding, of the result: half a unit in the last of 8 bits.
    np.testing.assert_allclose(
        y.astype(np.float32), expected(low, scale, bias, 1e-5), rtol=2**-8, atol=1e-5
    )
    gradients = jax.grad(
        lambda *a: normalize(*a, 1e-5, jnp.bfloat16).astype(jnp.float32).sum(), argnums=(0, 1, 2)
    )(low, scale, bias)
    assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.float32, jnp.float32]


def test_the_layer_starts_as_scale_1_bias_0_epsilon_1e_5():
    norm = LayerNorm(EncoderConfig(hidden_size=16, num_heads=2, compute_dtype="float32"))
    np.testing.assert_array_equal(norm.scale[...], np.ones(16, np.float32))
    np.testing.assert_array_equal(norm.bias[...], np.zeros(16, np.float32))
    x, _, _ = draw(6, 3e-3)  # Variance 9e-6: the default of flax, 1e-6, is far off.
    np.testing.assert_allclose(norm(x), expected(x, 1, 0, 1e-5), rtol=0, atol=5e-6)


def test_the_layer_uses_the_weights_the_epsilon_and_the_compute_type_that_it_is_given():
    config = EncoderConfig(
        hidden_size=16, num_heads=2, compute_dtype="bfloat16", layer_norm_epsilon=0.5
    )
    norm = LayerNorm(config)
    x, scale, bias = draw(7)
    norm.scale[...], norm.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
    y = norm(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        y.astype(np.float32), expected(x, scale, bias, 0.5), rtol=2**-8, atol=1e-5
    )
