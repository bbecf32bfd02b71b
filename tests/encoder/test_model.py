import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import row_keys
from roberta_jax.encoder.model import abstract_params, bind, count_params, init_params
from roberta_jax.objective.loss import masked_lm_sums
from roberta_jax.parallel.tables import path_name
from tests.encoder import reference
from tests.encoder.reference import PAD
from tests.encoder.tiny import (
    CONFIG,
    WITHOUT_DROPOUT,
    dropped,
    generator,
    initial_params,
    model_logits,
    model_states,
    params_of_seed,
    random_like,
    random_params,
    random_tokens,
    wide,
)

KEYS = np.asarray(row_keys(3, jnp.uint32(4), 3))
POSITIONS = np.array([[1, 14, 3, 3], [0, 10, 2, 5], [7, 6, 14, 1]], np.int32)
# The draw of key 0. Another one, after an upgrade say, and runs no longer repeat from their seed.
GOLDEN_WEIGHTS = {
    "embedding/token/embedding": [-0.02925823, -0.00703457, -0.003227904],
    "embedding/position/embedding": [-0.04272352, 0.01971002, -0.007152092],
    "layers/attention/query/kernel": [0.006381365, -0.006033373, -0.01825825],
    "layers/mlp/down/kernel": [0.01399372, -0.02164196, -0.01308497],
    "head/dense/kernel": [-0.02968806, -0.01720929, -0.01349612],
}
TARGETS = np.array([[0, 5, 49, 7], [9, 10, 2, 33], [4, 4, 20, 0]], np.int32)
BFLOAT16 = dataclasses.replace(CONFIG, compute_dtype="bfloat16")

PARAMS = random_params()

states = model_states(CONFIG)
logits = model_logits(CONFIG)


def mean_loss(config):
    def loss(params, tokens, keys=None):
        sums = masked_lm_sums(
            bind(config, params)(tokens, POSITIONS, keys), TARGETS, jnp.ones(TARGETS.shape)
        )
        return sums.loss / sums.count

    return loss


# By compute type; compiled once for all tests.
loss_and_gradient = {
    config.compute_dtype: jax.jit(jax.value_and_grad(mean_loss(config)))
    for config in (CONFIG, BFLOAT16)
}


def named_leaves(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def all_positions(tokens):
    return np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)


BASE = EncoderConfig(vocab_size=50_265)
LARGE = EncoderConfig(
    vocab_size=50_265, num_layers=24, hidden_size=1024, num_heads=16, mlp_size=4096
)


@pytest.mark.parametrize(("config", "expected"), [(BASE, 124_696_665), (LARGE, 355_411_033)])
def test_roberta_has_as_many_parameters_as_published(config, expected):
    for multiple in (1, 128, 1000):
        padded = dataclasses.replace(config, vocab_padding_multiple=multiple)
        assert count_params(padded) == expected
    # 50,304 = 393 · 128 rows, each with a bias.
    leaves = jax.tree.leaves(abstract_params(config))
    stored = sum(leaf.size for leaf in leaves)
    assert stored == expected + 39 * (config.hidden_size + 1)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_initial_weights_are_a_function_of_the_key():
    first, again, other = (named_leaves(params_of_seed(seed)) for seed in (0, 0, 1))
    for name, leaf in first.items():
        np.testing.assert_array_equal(leaf, again[name])
        is_constant = name.endswith(("bias", "scale"))
        assert np.array_equal(leaf, other[name]) == is_constant, name


def test_golden_initial_weights():
    leaves = named_leaves(initial_params())
    for name, values in GOLDEN_WEIGHTS.items():
        np.testing.assert_allclose(leaves[name].ravel()[:3], values, rtol=2e-6, err_msg=name)


def test_initial_weights_are_normal_002_or_the_constants_of_biases_and_scales():
    kernels = []
    for name, leaf in named_leaves(initial_params()).items():
        leaf = np.asarray(leaf)
        assert leaf.dtype == np.float32, name
        if name.endswith("/bias"):
            assert not np.any(leaf), name
        elif name.endswith("/scale"):
            assert np.all(leaf == 1), name
        else:
            drawn = leaf[leaf != 0]  # Without the rows of padding.
            assert drawn.size >= 17 * 32, name
            assert abs(drawn.std() / 0.02 - 1) < 5 / np.sqrt(2 * drawn.size), name
            # A truncated normal has nothing beyond 2 sigma.
            assert abs((np.abs(drawn) > 0.04).mean() - 0.0455) < 5 * np.sqrt(0.0434 / drawn.size)
            kernels.append(drawn[: 17 * 32])
    # No two of them are one draw.
    assert np.abs(np.corrcoef(kernels) - np.eye(9)).max() < 5 / np.sqrt(17 * 32)


def test_hidden_states_are_what_numpy_computes():
    params, tokens = random_params(), random_tokens(1)
    expected = reference.states(wide(params), tokens, CONFIG.num_heads)
    ours = states(params, tokens)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["evaluation", "dropout"])
def test_logits_are_what_numpy_computes(keys):
    params, tokens = random_params(), random_tokens(1)
    drop = reference.unchanged if keys is None else dropped(keys, CONFIG)
    expected = reference.logits(wide(params), tokens, POSITIONS, CONFIG, drop)
    ours = logits(params, tokens, POSITIONS, keys)
    assert (ours.shape, ours.dtype) == ((3, 4, 56), jnp.float32)
    np.testing.assert_allclose(ours[..., :50], expected[..., :50], rtol=0, atol=5e-5)
    assert np.all(np.isneginf(ours[..., 50:]))


@pytest.mark.parametrize("keys", [None, KEYS], ids=["evaluation", "dropout"])
def test_gradients_are_the_differences_of_what_numpy_computes(keys):
    params, tokens = random_params(), random_tokens(1)
    drop = reference.unchanged if keys is None else dropped(keys, CONFIG)

    def loss(params):
        entries = reference.log_softmax(reference.logits(params, tokens, POSITIONS, CONFIG, drop))
        return -np.take_along_axis(entries, TARGETS[..., None], -1).mean()

    value, gradient = loss_and_gradient["float32"](params, tokens, keys)
    params = wide(params)
    np.testing.assert_allclose(value, loss(params), rtol=1e-5)

    leaves, structure = jax.tree.flatten(params)
    source = generator(9)
    for index, (name, leaf_gradient) in enumerate(named_leaves(gradient).items()):
        direction = source.standard_normal(leaves[index].shape)

        def moved(distance, index=index, direction=direction):
            changed = list(leaves)
            changed[index] = leaves[index] + distance * direction
            return loss(jax.tree.unflatten(structure, changed))

        step = 1e-4
        difference = (moved(step) - moved(-step)) / (2 * step)
        ours = np.vdot(np.asarray(leaf_gradient, np.float64), direction)
        # Keys' biases move all scores of a row alike, so their gradient is rounding around 0.
        size = max(np.linalg.norm(leaf_gradient), 1e-2)
        assert abs(ours - difference) < 2e-5 * size, (name, ours, difference)


def test_the_projection_is_tied_to_the_token_embedding():
    params, tokens = PARAMS, random_tokens(1)
    changed = jax.tree.map(np.copy, params)
    unseen = next(token for token in range(4, 49) if token not in tokens)
    changed["embedding"]["token"]["embedding"][unseen] += 1
    differs = np.asarray(logits(params, tokens, POSITIONS) != logits(changed, tokens, POSITIONS))
    assert np.all(differs[..., unseen])
    assert not np.any(np.delete(differs, unseen, axis=-1))


def test_logits_at_chosen_positions_are_those_of_all_positions():
    params, tokens = random_params(), random_tokens(1)
    everywhere = np.asarray(logits(params, tokens, all_positions(tokens)))
    chosen = np.take_along_axis(everywhere, POSITIONS[..., None], axis=1)
    np.testing.assert_allclose(logits(params, tokens, POSITIONS), chosen, rtol=0, atol=1e-6)


def test_what_stands_in_padding_changes_no_other_token():
    params, tokens = PARAMS, random_tokens(1)
    changed = jax.tree.map(np.copy, params)
    for table in ("token", "position"):
        changed["embedding"][table]["embedding"][PAD] = 1000 * (1 + np.arange(32))
    real = tokens != PAD
    ours, other = states(params, tokens), states(changed, tokens)
    np.testing.assert_array_equal(ours[real], other[real])
    assert not np.allclose(ours[~real], other[~real])


@given(st.lists(st.integers(0, 15), min_size=5, max_size=5, unique=True))
def test_padding_anywhere_leaves_the_other_tokens_as_they_are_without_it(places):
    row = random_tokens(2, num_rows=1, length=11, paddings=())
    real = ~np.isin(np.arange(16), places)
    padded = np.full((1, 16), PAD, np.int32)
    padded[0, real] = row[0]
    np.testing.assert_allclose(
        states(PARAMS, padded)[0, real], states(PARAMS, row)[0], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_the_padding_of_the_vocabulary_has_no_probability_and_no_gradient(kind):
    config = dataclasses.replace(CONFIG, compute_dtype=kind)
    params, tokens = random_params(), random_tokens(1)
    params["embedding"]["token"]["embedding"][50:] = 10
    params["head"]["bias"][50:] = 1000
    probabilities = jax.nn.softmax(model_logits(config)(params, tokens, POSITIONS))
    assert not np.any(probabilities[..., 50:])
    np.testing.assert_allclose(probabilities[..., :50].sum(-1), 1, rtol=1e-5)
    _, gradient = loss_and_gradient[kind](params, tokens, KEYS)
    assert not np.any(gradient["embedding"]["token"]["embedding"][50:])
    assert not np.any(gradient["head"]["bias"][50:])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_the_padding_of_the_vocabulary_changes_no_logit():
    params, tokens = random_params(), random_tokens(1)
    unpadded = jax.tree.map(np.copy, params)
    unpadded["embedding"]["token"]["embedding"] = params["embedding"]["token"]["embedding"][:50]
    unpadded["head"]["bias"] = params["head"]["bias"][:50]
    config = dataclasses.replace(CONFIG, vocab_padding_multiple=1)
    np.testing.assert_allclose(
        model_logits(config)(unpadded, tokens, POSITIONS),
        logits(params, tokens, POSITIONS)[..., :50],
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("keys", [None, KEYS], ids=["evaluation", "dropout"])
def test_a_row_does_not_depend_on_the_batch_that_it_is_in(keys):
    params, tokens = random_params(), random_tokens(1)
    whole = np.asarray(logits(params, tokens, POSITIONS, keys))[..., :50]
    order = np.array([2, 0])
    part = logits(params, tokens[order], POSITIONS[order], None if keys is None else keys[order])
    np.testing.assert_allclose(part[..., :50], whole[order], rtol=0, atol=5e-6)


def test_dropout_needs_keys_and_other_keys_drop_something_else():
    params, tokens = random_params(), random_tokens(1)
    plain, dropped_states = states(params, tokens), states(params, tokens, KEYS)
    assert not np.allclose(plain, dropped_states, atol=0.1)
    assert not np.allclose(dropped_states, states(params, tokens, KEYS + np.uint32(1)), atol=0.1)
    without = dataclasses.replace(CONFIG, **WITHOUT_DROPOUT)
    np.testing.assert_allclose(
        model_states(without)(params, tokens, KEYS), plain, rtol=0, atol=1e-6
    )


def test_the_config_says_whether_the_backward_pass_computes_again():
    params, tokens = random_params(), random_tokens(1)
    for policy in ("none", "dots", "full"):
        config = dataclasses.replace(CONFIG, rematerialization=policy)
        program = str(jax.make_jaxpr(mean_loss(config))(params, tokens, KEYS))
        assert ("remat" in program or "checkpoint" in program) == (policy != "none")


def test_bfloat16_is_near_float32_and_its_gradients_are_float32():
    params, tokens = random_params(), random_tokens(1)
    low = model_states(BFLOAT16)(params, tokens)
    assert low.dtype == jnp.bfloat16
    exact = np.asarray(states(params, tokens))
    error = np.abs(np.asarray(low, np.float32) - exact)
    assert 1e-4 < error.mean() < 0.02 * exact.std()

    value, gradient = loss_and_gradient["float32"](params, tokens, KEYS)
    low_value, low_gradient = loss_and_gradient["bfloat16"](params, tokens, KEYS)
    np.testing.assert_allclose(low_value, value, rtol=0.01)
    exact = {name: np.asarray(leaf) for name, leaf in named_leaves(gradient).items()}
    for name, leaf in named_leaves(low_gradient).items():
        assert leaf.dtype == jnp.float32, name
        error = np.linalg.norm(leaf - exact[name])
        if name == "layers/attention/key/bias":
            # Exactly 0, for it moves all scores of a query alike: what is left is the rounding of
            # the scores' cotangents, here against the gradient of the query's bias.
            assert error < 0.01 * np.linalg.norm(exact["layers/attention/query/bias"])
        else:
            assert error < 0.05 * np.linalg.norm(exact[name]), name


def test_bind_makes_a_model_of_the_weights_themselves():
    params = initial_params()
    model = bind(CONFIG, params)
    assert model.embedding.token.embedding[...] is params["embedding"]["token"]["embedding"]
    assert model.layers.mlp.up.kernel[...] is params["layers"]["mlp"]["up"]["kernel"]


# ---- Packed rows ---------------------------------------------------------------------------------


def test_the_parts_of_a_packed_row_are_as_if_alone():
    first, second = random_tokens(5, 2, 16, (0,))[:, :9], random_tokens(6, 2, 16, (0,))[:, :5]
    padding = np.full((2, 2), PAD, np.int32)
    packed = np.concatenate([first, second, padding], axis=1)
    segments = np.repeat([[1, 2, 0]], 2, axis=0).repeat((9, 5, 2), axis=1)
    together = jax.jit(lambda params: bind(CONFIG, params).states(packed, segments=segments))(
        PARAMS
    )
    np.testing.assert_allclose(together[:, :9], states(PARAMS, first), rtol=0, atol=1e-5)
    np.testing.assert_allclose(together[:, 9:14], states(PARAMS, second), rtol=0, atol=1e-5)
    assert not np.allclose(states(PARAMS, packed)[:, :14], together[:, :14], atol=1e-2)


def test_one_segment_is_the_row_as_it_is():
    tokens = random_tokens(5)
    segments = (tokens != PAD).astype(np.int32)
    one = jax.jit(lambda params: bind(CONFIG, params).states(tokens, segments=segments))(PARAMS)
    real = tokens != PAD
    np.testing.assert_array_equal(one[real], states(PARAMS, tokens)[real])


# ---- Next sentence -------------------------------------------------------------------------------

WITH_NEXT_SENTENCE = dataclasses.replace(CONFIG, next_sentence_head=True)
STARTS = np.array([[0, 9, 0], [0, 4, 7], [0, 0, 0]], np.int32)


@jax.jit
def outputs(params, tokens, keys=None):
    model = bind(WITH_NEXT_SENTENCE, params)
    return model.outputs(tokens, POSITIONS, keys, starts=STARTS)


def test_without_the_setting_there_is_no_next_sentence_head_and_with_it_the_others_stay():
    ours = named_leaves(initial_params())
    assert not [name for name in ours if "next" in name]
    init = jax.jit(lambda: init_params(WITH_NEXT_SENTENCE, jax.random.key(0)))
    both = named_leaves(init())
    own = {name.removeprefix("next_sentence_head/") for name in both.keys() - ours.keys()}
    assert own == {"dense/kernel", "dense/bias", "projection/kernel", "projection/bias"}
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, both[name])
    # Its draw is no other's.
    kernels = [both[f"{name}/dense/kernel"].ravel() for name in ("next_sentence_head", "head")]
    kernels.append(both["embedding/token/embedding"][4:36].ravel())
    assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 5 / np.sqrt(1024)
    assert count_params(WITH_NEXT_SENTENCE) == count_params(CONFIG) + 32 * 32 + 32 + 32 * 2 + 2


@pytest.mark.parametrize("keys", [None, KEYS], ids=["evaluation", "dropout"])
def test_outputs_are_the_logits_of_the_call_and_those_of_the_states_at_the_starts(keys):
    params = random_like(abstract_params(WITH_NEXT_SENTENCE), 3)
    tokens = random_tokens(1)
    found, next_sentence = outputs(params, tokens, keys)
    others = {name: leaf for name, leaf in params.items() if name != "next_sentence_head"}
    np.testing.assert_allclose(found, logits(others, tokens, POSITIONS, keys), rtol=0, atol=1e-6)
    assert (next_sentence.shape, next_sentence.dtype) == ((3, 3, 2), jnp.float32)
    drop = reference.unchanged if keys is None else dropped(keys, CONFIG)
    states = reference.states(wide(params), tokens, CONFIG.num_heads, drop)
    vectors = np.take_along_axis(states, STARTS[..., None], axis=1)
    head = wide(params)["next_sentence_head"]
    expected = reference.linear(
        np.tanh(reference.linear(vectors, head["dense"])), head["projection"]
    )
    np.testing.assert_allclose(next_sentence, expected, rtol=0, atol=2e-5)


def test_outputs_know_segments_and_token_types():
    config = dataclasses.replace(WITH_NEXT_SENTENCE, num_token_types=2)
    params, tokens = random_like(abstract_params(config), 3), random_tokens(1)
    segments = np.repeat([[1, 2]], 3, axis=0).repeat((9, 7), axis=1)
    types = (np.arange(16) % 9 > 4) * np.ones((3, 1), np.int32)

    @jax.jit
    def run(params, segments, types):
        model = bind(config, params)
        options = {"segments": segments, "token_types": types}
        both = model.outputs(tokens, POSITIONS, **options, starts=STARTS)
        return both, model(tokens, POSITIONS, **options)

    (found, next_sentence), expected = run(params, segments, types)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for changed in ((segments, 0 * types), (np.ones_like(segments), types)):
        (_, another), _ = run(params, *changed)
        assert np.abs(next_sentence - another)[0, 1].max() > 1e-3


# ---- Inside --------------------------------------------------------------------------------------


def test_a_trace_ends_in_the_states_and_its_weights_are_probabilities():
    tokens = random_tokens(5)
    after, weights = jax.jit(lambda params: bind(CONFIG, params).trace(tokens))(PARAMS)
    assert after.shape == (3, 3, 16, 32) and weights.shape == (2, 3, 4, 16, 16)
    np.testing.assert_allclose(after[-1], states(PARAMS, tokens), rtol=0, atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)
    hidden = np.broadcast_to((tokens == PAD)[:, None, None], weights.shape[1:])
    assert not np.asarray(weights[0])[hidden].any()
