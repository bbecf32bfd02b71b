import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.embedding import Embedding, position_ids
from tests.encoder import reference
from tests.encoder.reference import PAD
from tests.encoder.tiny import CONFIG, dropped, functional, initial_weights, random_tokens, wide

KEYS = np.array([11, 22, 33], np.uint32)


def make(config=CONFIG):
    params, run = functional(
        lambda: Embedding(config, key=jax.random.key(0)),
        lambda module, tokens, keys: module(tokens, tokens != config.pad_id, keys),
    )
    return params, jax.jit(lambda params, tokens, keys=None: run(params, tokens, keys))


def test_positions_start_at_2_and_count_what_is_not_padding():
    tokens = np.array(
        [
            [0, 9, 8, 7, 2],
            [0, 9, 2, PAD, PAD],
            [PAD, PAD, 0, 9, 2],
            [0, PAD, 9, PAD, 2],
            [PAD, PAD, PAD, PAD, PAD],
        ]
    )
    expected = [[2, 3, 4, 5, 6], [2, 3, 4, 1, 1], [1, 1, 2, 3, 4], [2, 1, 3, 1, 4], [1] * 5]
    ids = position_ids(tokens != PAD, 2)
    np.testing.assert_array_equal(ids, expected)
    assert ids.dtype == jnp.int32


@given(arrays.arrays(np.int32, (4, 12), elements=st.integers(0, 3)))
def test_positions_are_those_of_counting_by_hand(tokens):
    np.testing.assert_array_equal(position_ids(tokens != PAD, 2), reference.position_ids(tokens))


def test_positions_restart_in_every_segment():
    real = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 1, 1, 1]], bool)
    segments = np.array([[1, 1, 2, 2, 2, 0, 0], [4, 4, 4, 9, 9, 4, 4]])
    np.testing.assert_array_equal(
        position_ids(real, 2, segments), [[2, 3, 2, 3, 4, 1, 1], [2, 1, 3, 2, 3, 2, 3]]
    )


def test_positions_of_bert_start_at_0():
    real = np.array([[1, 1, 1, 0]], bool)
    np.testing.assert_array_equal(position_ids(real, 0), [[0, 1, 2, 0]])
    config = dataclasses.replace(CONFIG, position_offset=0)
    params, _ = make(config)
    assert params["position"]["embedding"].shape == (16, 32)


def test_token_types_are_added_before_the_norm():
    config = dataclasses.replace(CONFIG, num_token_types=2)
    params, run = functional(
        lambda: Embedding(config, key=jax.random.key(0)),
        lambda module, tokens, types: module(tokens, tokens != PAD, None, token_types=types),
    )
    tokens = random_tokens(1)
    types = np.arange(tokens.size).reshape(tokens.shape) % 2
    table, rows = params.pop("token_type")["embedding"], params["token"]["embedding"]
    shifted = jax.jit(run)({**params, "token_type": {"embedding": table}}, tokens, types)
    for kind in (0, 1):
        moved = {**params, "token": {"embedding": rows + table[kind]}}
        expected = reference.embed(tokens, wide(moved))
        np.testing.assert_allclose(
            shifted[types == kind], expected[types == kind], rtol=0, atol=1e-5
        )
    without = jax.jit(run)({**params, "token_type": {"embedding": table}}, tokens, 0 * types)
    default = jax.jit(lambda params: run(params, tokens, None))(
        {**params, "token_type": {"embedding": table}}
    )
    np.testing.assert_array_equal(without, default)


def test_it_is_token_plus_position_then_layer_norm():
    params, run = make()
    tokens = random_tokens(1)
    tokens[2, 3] = PAD
    np.testing.assert_allclose(
        run(params, tokens), reference.embed(tokens, wide(params)), rtol=0, atol=1e-5
    )


def test_dropout_comes_after_layer_norm():
    params, run = make()
    tokens = random_tokens(1)
    # The module is given the keys of its site; `dropped` would derive them.
    drop = dropped(KEYS, CONFIG)
    expected = reference.embed(tokens, wide(params), lambda x, site: drop(x))
    y = run(params, tokens, KEYS)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    assert abs((np.asarray(y) == 0).mean() - CONFIG.embedding_dropout_rate) < 0.05


def test_the_longest_row_reaches_the_last_of_max_positions_plus_2_rows():
    params, run = make()
    assert params["position"]["embedding"].shape == (18, 32)
    tokens = random_tokens(1, paddings=())
    changed = jax.tree.map(np.copy, params)
    changed["position"]["embedding"][17] += 1 + np.arange(32)
    differs = np.any(np.asarray(run(params, tokens) != run(changed, tokens)), axis=-1)
    np.testing.assert_array_equal(differs, [[False] * 15 + [True]] * 3)


def test_rows_of_padding_start_at_0_and_the_others_as_normal_002():
    config = EncoderConfig(
        vocab_size=1000,
        vocab_padding_multiple=64,
        hidden_size=128,
        num_heads=2,
        max_positions=512,
    )
    weights = initial_weights(lambda: Embedding(config, key=jax.random.key(3)))
    tables = weights["token"]["embedding"], weights["position"]["embedding"]
    for table, rows, used in (
        (tables[0], 1024, [0, *range(2, 1000)]),
        (tables[1], 514, [0, *range(2, 514)]),
    ):
        table = np.asarray(table)
        assert (table.shape, table.dtype) == ((rows, 128), np.float32)
        assert not np.any(np.delete(table, used, axis=0))
        drawn = table[used]
        assert np.all(np.any(drawn != 0, axis=1))
        assert abs(drawn.std() / 0.02 - 1) < 5 / np.sqrt(2 * drawn.size)
        assert abs((np.abs(drawn) > 0.04).mean() - 0.0455) < 5 * np.sqrt(0.0434 / drawn.size)
    token, position = (np.asarray(table[2:500]) for table in tables)
    assert abs(np.corrcoef(token.ravel(), position.ravel())[0, 1]) < 5 / np.sqrt(token.size)


def test_the_result_has_the_compute_type_and_the_tables_stay_float32():
    params, run = make(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))
    tokens = random_tokens(1)
    y = run(params, tokens)
    assert y.dtype == jnp.bfloat16
    # The sum and the norm are float32: one rounding, to 8 bits.
    np.testing.assert_allclose(
        y.astype(np.float32), reference.embed(tokens, wide(params)), rtol=2**-8, atol=1e-5
    )
