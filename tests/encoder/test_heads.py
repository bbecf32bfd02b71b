import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from roberta_jax.encoder.heads import MaskedLanguageModelHead, NextSentenceHead
from tests.encoder import reference
from tests.encoder.tiny import CONFIG, functional, generator, initial_weights, wide


def make(config=CONFIG):
    params, run = functional(lambda: MaskedLanguageModelHead(config, rngs=nnx.Rngs(0)))
    return params, jax.jit(run)


def inputs():
    source = generator(2)
    states = source.standard_normal((2, 5, CONFIG.hidden_size)).astype(np.float32)
    table = source.standard_normal((56, CONFIG.hidden_size)).astype(np.float32)
    return states, table


def test_it_is_dense_gelu_layer_norm_table_and_bias():
    params, run = make()
    states, table = inputs()
    logits = run(params, states, table)
    expected = reference.head(wide(states), wide(params), wide(table), CONFIG.vocab_size)
    assert (logits.shape, logits.dtype) == ((2, 5, 56), jnp.float32)
    np.testing.assert_allclose(logits[..., :50], expected[..., :50], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_entries_beyond_the_vocabulary_have_no_probability_and_no_gradient(kind):
    params, run = make(dataclasses.replace(CONFIG, compute_dtype=kind))
    states, table = inputs()
    table[50:] = 100  # Would win every prediction.
    logits = run(params, states, table)
    assert logits.dtype == jnp.float32
    assert np.all(np.isneginf(logits[..., 50:]))
    assert np.all(np.isfinite(logits[..., :50]))
    np.testing.assert_array_equal(jax.nn.softmax(logits)[..., 50:], 0)

    def loss(params, states, table):
        return -jax.nn.log_softmax(run(params, states, table))[..., 7].sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, states, table)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    of_params, _, of_table = gradients
    assert not np.any(of_table[50:]) and not np.any(of_params["bias"][50:])
    assert np.all(np.any(of_table[:50] != 0, axis=1)) and np.all(of_params["bias"][:50] != 0)


def test_an_exact_multiple_needs_no_padding():
    config = dataclasses.replace(CONFIG, vocab_size=56)
    params, run = make(config)
    states, table = inputs()
    assert params["bias"].shape == (56,)
    assert np.all(np.isfinite(run(params, states, table)))


def test_the_projection_is_given_and_the_bias_starts_at_0():
    weights = initial_weights(lambda: MaskedLanguageModelHead(CONFIG, rngs=nnx.Rngs(0)))
    assert set(weights) == {"dense", "norm", "bias"}
    assert weights["bias"].dtype == jnp.float32
    assert not np.any(weights["bias"]) and not np.any(weights["dense"]["bias"])


# ---- Next sentence ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_the_next_sentence_head_is_dense_tanh_and_a_projection_to_two(kind):
    config = dataclasses.replace(CONFIG, compute_dtype=kind)
    params, run = functional(lambda: NextSentenceHead(config, rngs=nnx.Rngs(0)))
    states = generator(3).standard_normal((2, 5, CONFIG.hidden_size)).astype(np.float32)
    hidden = np.tanh(reference.linear(wide(states), wide(params)["dense"]))
    expected = reference.linear(hidden, wide(params)["projection"])
    logits = jax.jit(run)(params, states)
    assert (logits.shape, logits.dtype) == ((2, 5, 2), jnp.float32)
    atol = 1e-5 if kind == "float32" else 0.05
    np.testing.assert_allclose(logits, expected, rtol=0, atol=atol)


def test_the_weights_of_the_next_sentence_head():
    weights = initial_weights(lambda: NextSentenceHead(CONFIG, rngs=nnx.Rngs(0)))
    shapes = jax.tree.map(lambda leaf: leaf.shape, weights)
    assert shapes == {
        "dense": {"kernel": (32, 32), "bias": (32,)},
        "projection": {"kernel": (32, 2), "bias": (2,)},
    }
    assert not np.any(weights["dense"]["bias"]) and not np.any(weights["projection"]["bias"])
    assert abs(np.asarray(weights["dense"]["kernel"]).std() / 0.02 - 1) < 5 / np.sqrt(2 * 1024)
