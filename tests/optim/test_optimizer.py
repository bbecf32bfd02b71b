import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from roberta_jax.config import OptimizerConfig
from roberta_jax.optim.optimizer import apply_updates, global_norm, make_optimizer
from roberta_jax.parallel.tables import spec_of
from tests.optim.leaves import LEAVES, draw, flat, gradients, nested, steps_of_numpy, unstacked

NUM_STEPS = 50
# They differ from step to step, and are large, so that neither they nor the decay can hide.
RATES = [0.02 * min((step + 1) / 10, (NUM_STEPS - step) / 40) for step in range(NUM_STEPS)]


def run(config, params, gradients, rates):
    """The parameters and the state of the optimizer after each step."""
    optimizer = make_optimizer(config)
    params = nested(params)
    state = optimizer.init(params)

    @jax.jit
    def step(gradient, state, params, rate):
        updates, state = optimizer.update(gradient, state, params, learning_rate=rate)
        return apply_updates(params, updates), state

    for gradient, rate in zip(gradients, rates, strict=True):
        params, state = step(nested(gradient), state, params, jnp.float32(rate))
        yield params, state


def first_update(config, gradient, params, rate):
    optimizer = make_optimizer(config)
    state = optimizer.init(params)
    return jax.jit(optimizer.update)(gradient, state, params, learning_rate=jnp.float32(rate))[0]


def assert_close_to_numpy(config, tolerance):
    params = draw(100, False)
    ours = run(config, params, gradients(NUM_STEPS), RATES)
    theirs = steps_of_numpy(config, params, gradients(NUM_STEPS), RATES)
    for step, ((found, _), expected) in enumerate(zip(ours, theirs, strict=True)):
        for name, leaf in flat(found).items():
            # Relative to the leaf: single weights pass through 0.
            largest = np.abs(expected[name]).max()
            np.testing.assert_allclose(
                leaf,
                expected[name],
                rtol=0,
                atol=tolerance * largest,
                err_msg=f"{name} after step {step}",
            )


@pytest.mark.parametrize("decay_table", ["bert", "fairseq"])
@pytest.mark.parametrize("clip_global_norm", [math.inf, 1.0])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_fifty_steps_of_adamw_are_those_of_numpy(decay_table, clip_global_norm, bias_correction):
    config = OptimizerConfig(
        weight_decay=0.3,
        decay_table=decay_table,
        clip_global_norm=clip_global_norm,
        bias_correction=bias_correction,
    )
    assert_close_to_numpy(config, 1e-6)


@pytest.mark.parametrize("clip_global_norm", [math.inf, 1.0])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_fifty_steps_of_lamb_are_those_of_numpy(clip_global_norm, bias_correction):
    config = OptimizerConfig(
        kind="lamb",
        beta2=0.999,
        weight_decay=0.3,
        clip_global_norm=clip_global_norm,
        bias_correction=bias_correction,
    )
    assert_close_to_numpy(config, 1e-6)


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_a_stacked_and_an_unstacked_model_take_the_same_steps(kind):
    config = OptimizerConfig(kind=kind, weight_decay=0.3, clip_global_norm=1.0)
    # Layers of very different length, so that one ratio for both would show.
    params = draw(100, False)
    params["layers/mlp/up/kernel"][1] *= 100
    *_, (stacked, _) = run(config, params, gradients(NUM_STEPS), RATES)
    split = [unstacked(gradient) for gradient in gradients(NUM_STEPS)]
    *_, (separate, _) = run(config, unstacked(params), split, RATES)
    separate = flat(separate)
    assert len(separate) == len(LEAVES) + 3
    for name, leaf in unstacked(flat(stacked)).items():
        largest = np.abs(leaf).max()
        np.testing.assert_allclose(leaf, separate[name], rtol=0, atol=1e-6 * largest, err_msg=name)


def test_biases_and_layer_norm_have_no_trust_ratio():
    lamb = OptimizerConfig(kind="lamb", weight_decay=0.3)
    params = nested(draw(1, False))
    gradient = nested(draw(2, True))
    with_ratio = flat(first_update(lamb, gradient, params, 0.1))
    without = flat(first_update(dataclasses.replace(lamb, kind="adamw"), gradient, params, 0.1))
    for name, (_, _, decays) in LEAVES.items():
        if decays:
            assert not np.allclose(with_ratio[name], without[name], rtol=0.01)
        else:
            np.testing.assert_array_equal(with_ratio[name], without[name])


def test_with_every_parameter_decaying_adamw_is_that_of_optax():
    config = OptimizerConfig(weight_decay=0.3, decay_table="fairseq", beta2=0.999)
    params = draw(100, False)
    *_, (ours, _) = run(config, params, gradients(NUM_STEPS), [0.02] * NUM_STEPS)
    theirs = params_of_optax(optax.adamw(0.02, 0.9, 0.999, 1e-6, weight_decay=0.3), params)
    for name, leaf in flat(ours).items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=0, atol=2e-5, err_msg=name)


def test_where_every_parameter_decays_lamb_is_that_of_optax():
    names = ["embedding/token/embedding", "head/dense/kernel"]
    params = {names[0]: draw(1, False)[names[0]], names[1]: np.float32(3 * np.eye(3))}
    config = OptimizerConfig(kind="lamb", weight_decay=0.3)
    steps = [
        {names[0]: draw(step, True)[names[0]], names[1]: np.float32(np.ones((3, 3)) / (1 + step))}
        for step in range(NUM_STEPS)
    ]
    *_, (ours, _) = run(config, params, steps, [0.02] * NUM_STEPS)
    theirs = params_of_optax(optax.lamb(0.02, 0.9, 0.98, 1e-6, weight_decay=0.3), params, steps)
    for name, leaf in flat(ours).items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)


def params_of_optax(optimizer, params, steps=None):
    params = nested(params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in steps or gradients(NUM_STEPS):
        updates, state = update(nested(gradient), state, params)
        params = optax.apply_updates(params, updates)
    return flat(params)


def test_the_defaults_are_those_of_roberta():
    config = OptimizerConfig()
    assert (config.beta1, config.beta2, config.epsilon) == (0.9, 0.98, 1e-6)
    assert (config.weight_decay, config.clip_global_norm) == (0.01, math.inf)


def test_without_gradient_only_what_decays_moves():
    config = OptimizerConfig(weight_decay=0.1)
    params = nested(draw(1, False))
    updates = first_update(config, jax.tree.map(np.zeros_like, params), params, 0.5)
    moved = flat(apply_updates(params, updates))
    for name, leaf in flat(params).items():
        factor = 1 - 0.5 * 0.1 if LEAVES[name][2] else 1
        np.testing.assert_allclose(moved[name], factor * leaf, rtol=1e-6)


def test_the_first_update_has_the_given_rate_and_no_bias_of_the_moments():
    config = OptimizerConfig(weight_decay=0.0)
    params = nested(draw(1, False))
    gradient = jax.tree.map(lambda leaf: 1000 * np.sign(leaf), params)
    for name, leaf in flat(first_update(config, gradient, params, 0.1)).items():
        np.testing.assert_allclose(leaf, -0.1 * np.sign(flat(params)[name]), rtol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
@pytest.mark.parametrize("clip_global_norm", [math.inf, 1.0])
@pytest.mark.parametrize("moments_dtype", ["float32", "bfloat16"])
def test_the_state_is_a_count_and_two_moments_in_their_type(kind, clip_global_norm, moments_dtype):
    config = OptimizerConfig(
        kind=kind, clip_global_norm=clip_global_norm, moments_dtype=moments_dtype
    )
    *_, (params, state) = run(config, draw(2, False), gradients(3), [0.1] * 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    expected = {f"optimizer/1/{part}/{name}" for part in ("mu", "nu") for name in LEAVES}
    leaves = flat({"optimizer": state})
    assert set(leaves) == expected | {"optimizer/1/count"}
    assert leaves["optimizer/1/count"] == 3
    for name in expected:
        assert leaves[name].shape == LEAVES[name.split("/", 3)[3]][0]
        assert spec_of(name) == spec_of(name.split("/", 3)[3])
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim}
    assert kinds == {jnp.dtype(moments_dtype)}


def test_the_state_before_the_first_update_is_zero():
    state = make_optimizer(OptimizerConfig()).init(nested(draw(2, False)))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state))


def test_global_norm_is_that_of_all_leaves_together():
    tree = draw(3, True)
    expected = np.linalg.norm(np.concatenate([leaf.ravel() for leaf in tree.values()]))
    np.testing.assert_allclose(global_norm(nested(tree)), expected, rtol=1e-6)
    assert global_norm({"a": jnp.array([3.0]), "b": {"c": jnp.array([[4.0]])}}) == 5


@pytest.mark.parametrize("limit", [0.5, 5.0])
@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_the_clip_scales_all_leaves_by_one_factor_and_only_beyond_the_limit(kind, limit):
    # With beta1 = 0 and a large epsilon, the update is the gradient but for a constant.
    config = OptimizerConfig(
        kind=kind, beta1=0.0, epsilon=1e6, weight_decay=0.0, clip_global_norm=limit
    )
    gradient = {"head": {"bias": jnp.array([0.6, 0.0])}, "norm": {"scale": jnp.array([0.8])}}
    updates = first_update(config, gradient, gradient, 1.0)
    expected = jax.tree.map(lambda leaf: -1e-6 * leaf * min(1, limit), gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)


def test_a_dropped_update_leaves_no_trace():
    config = OptimizerConfig()
    params = nested(draw(1, False))
    optimizer = make_optimizer(config)
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    update(nested(draw(2, True)), state, params, learning_rate=jnp.float32(0.3))
    # As if it were the first: the rate is the given one and the correction that of one update.
    gradient = jax.tree.map(np.ones_like, params)
    updates, state = update(gradient, state, params, learning_rate=jnp.float32(0.2))
    assert state[1].count == 1
    for name, leaf in flat(updates).items():
        decay = config.weight_decay * flat(params)[name] * LEAVES[name][2]
        np.testing.assert_allclose(leaf, -0.2 * (1 + decay), rtol=3e-6)
