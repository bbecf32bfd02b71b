import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.config import OptimizerConfig
from roberta_jax.optim.adamw import apply_updates, global_norm, make_optimizer

NUM_STEPS = 8
# As stacked and named in the model; (shape, size of the gradients, decays in the table of bert).
LEAVES = {
    "embedding/token/embedding": ((6, 4), 1.0, True),
    "layers/mlp/up/kernel": ((2, 4, 5), 1e-6, True),  # As small as epsilon, so that it shows.
    "layers/mlp/up/bias": ((2, 5), 0.1, False),
    "layers/mlp_norm/scale": ((2, 4), 1e-3, False),
    "head/bias": ((6,), 10.0, False),
}


def nested(flat):
    tree = {}
    for name, leaf in flat.items():
        *folders, last = name.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = leaf
    return tree


def flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def draw(seed, scaled):
    source = np.random.Generator(np.random.Philox(key=seed))
    return {
        name: np.float32((size if scaled else 1.0) * source.standard_normal(shape))
        for name, (shape, size, _) in LEAVES.items()
    }


def gradients():
    """One per step; some with a norm of about 30, some of about 0.3."""
    return [
        {
            name: leaf * np.float32(1 if step % 3 else 0.01)
            for name, leaf in draw(step, True).items()
        }
        for step in range(NUM_STEPS)
    ]


def rate_of(config, step):
    up = (step + 1) / config.warmup_steps
    down = (NUM_STEPS - step) / (NUM_STEPS - config.warmup_steps)
    return config.peak_learning_rate * min(up, down, 1)


def adamw_of_numpy(config, params):
    """Loshchilov and Hutter's algorithm 2, in float64; yields the parameters after each step."""
    params = {name: leaf.astype(np.float64) for name, leaf in params.items()}
    first = {name: np.zeros(leaf.shape) for name, leaf in params.items()}
    second = {name: np.zeros(leaf.shape) for name, leaf in params.items()}
    for step, gradient in enumerate(gradients()):
        gradient = {name: leaf.astype(np.float64) for name, leaf in gradient.items()}
        norm = math.sqrt(sum((leaf**2).sum() for leaf in gradient.values()))
        shrink = min(1.0, config.clip_global_norm / norm)
        rate = rate_of(config, step)
        for name in params:
            g = gradient[name] * shrink
            first[name] = config.beta1 * first[name] + (1 - config.beta1) * g
            second[name] = config.beta2 * second[name] + (1 - config.beta2) * g * g
            unbiased_first = first[name] / (1 - config.beta1 ** (step + 1))
            unbiased_second = second[name] / (1 - config.beta2 ** (step + 1))
            update = unbiased_first / (np.sqrt(unbiased_second) + config.epsilon)
            if LEAVES[name][2] or config.decay_table == "fairseq":
                update = update + config.weight_decay * params[name]
            params[name] = params[name] - rate * update
        yield params


def steps_of(config, params):
    """The parameters and the state of the optimizer after each step."""
    optimizer, _ = make_optimizer(config, NUM_STEPS)
    params = nested(params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients():
        updates, state = update(nested(gradient), state, params)
        params = apply_updates(params, updates)
        yield params, state


def first_update(config, gradient, params):
    optimizer, _ = make_optimizer(config, NUM_STEPS)
    update = jax.jit(
        lambda gradient, params: optimizer.update(gradient, optimizer.init(params), params)
    )
    return update(gradient, params)[0]


@pytest.mark.parametrize("decay_table", ["bert", "fairseq"])
@pytest.mark.parametrize("clip_global_norm", [math.inf, 1.0])
def test_several_steps_are_those_of_numpy(decay_table, clip_global_norm):
    # Rate and decay are large, so that neither hides behind the other.
    config = OptimizerConfig(
        peak_learning_rate=0.05,
        warmup_steps=3,
        weight_decay=0.3,
        decay_table=decay_table,
        clip_global_norm=clip_global_norm,
    )
    params = draw(100, False)
    pairs = zip(steps_of(config, params), adamw_of_numpy(config, params), strict=True)
    for step, ((ours, _), theirs) in enumerate(pairs):
        for name, leaf in flat(ours).items():
            np.testing.assert_allclose(
                leaf, theirs[name], rtol=0, atol=2e-6, err_msg=f"{name} after step {step}"
            )


def test_the_defaults_are_those_of_roberta():
    config = OptimizerConfig()
    assert (config.beta1, config.beta2, config.epsilon) == (0.9, 0.98, 1e-6)
    assert (config.weight_decay, config.clip_global_norm) == (0.01, math.inf)


def test_without_gradient_only_what_decays_moves():
    config = OptimizerConfig(peak_learning_rate=0.5, warmup_steps=1, weight_decay=0.1)
    params = nested(draw(1, False))
    updates = first_update(config, jax.tree.map(np.zeros_like, params), params)
    moved = flat(apply_updates(params, updates))
    for name, leaf in flat(params).items():
        factor = 1 - 0.5 * 0.1 if LEAVES[name][2] else 1
        np.testing.assert_allclose(moved[name], factor * leaf, rtol=1e-6)


def test_the_first_update_has_the_rate_of_step_0_and_no_bias_of_the_moments():
    config = OptimizerConfig(peak_learning_rate=0.4, warmup_steps=4, weight_decay=0.0)
    _, rate = make_optimizer(config, NUM_STEPS)
    params = nested(draw(1, False))
    gradient = jax.tree.map(lambda leaf: 1000 * np.sign(leaf), params)
    updates = first_update(config, gradient, params)
    np.testing.assert_allclose(rate(jnp.int32(0)), 0.1, rtol=1e-6)
    for name, leaf in flat(updates).items():
        np.testing.assert_allclose(leaf, -0.1 * np.sign(flat(params)[name]), rtol=1e-5)


def test_the_moments_are_float32_in_the_shape_of_the_parameters():
    *_, (params, state) = steps_of(OptimizerConfig(warmup_steps=3), draw(2, False))
    leaves = flat(state)
    for moment in ("mu", "nu"):
        for name, leaf in flat(params).items():
            (found,) = [path for path in leaves if path.endswith(f"{moment}/{name}")]
            assert leaves[found].shape == leaf.shape
    counts = [leaf for path, leaf in leaves.items() if path.endswith("count")]
    assert counts and all(count == NUM_STEPS for count in counts)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim}
    assert kinds == {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_global_norm_is_that_of_all_leaves_together():
    tree = draw(3, True)
    expected = np.linalg.norm(np.concatenate([leaf.ravel() for leaf in tree.values()]))
    np.testing.assert_allclose(global_norm(nested(tree)), expected, rtol=1e-6)
    assert global_norm({"a": jnp.array([3.0]), "b": {"c": jnp.array([[4.0]])}}) == 5


@pytest.mark.parametrize("limit", [0.5, 5.0])
def test_the_clip_scales_all_leaves_by_one_factor_and_only_beyond_the_limit(limit):
    # With beta1 = 0 and a large epsilon, the update is the gradient but for a constant.
    config = OptimizerConfig(
        peak_learning_rate=1.0,
        warmup_steps=0,
        beta1=0.0,
        epsilon=1e6,
        weight_decay=0.0,
        clip_global_norm=limit,
    )
    gradient = {"head": {"bias": jnp.array([0.6, 0.0])}, "norm": {"scale": jnp.array([0.8])}}
    updates = first_update(config, gradient, gradient)
    expected = jax.tree.map(lambda leaf: -1e-6 * leaf * min(1, limit), gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)
