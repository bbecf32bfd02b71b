"""Several seeds in one state: each is what it would be alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax import config as c
from roberta_jax.encoder.task_model import TaskHead
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.state import (
    FinetuneState,
    adopt_best,
    init_finetune_state,
    make_finetune_step,
)
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.train.state import TrainState
from tests.encoder import tiny

SEEDS = (3, 4, 11)
STEPS = 3
OBJECTIVE = TaskObjective(
    tiny.CONFIG, TaskHead(task="classification", num_outputs=3, dropout_rate=0.3), "classification"
)
# With a small epsilon, Adam makes of a gradient that is 0 but for rounding a step of full length.
OPTIMIZER = make_optimizer(c.OptimizerConfig(epsilon=1e-2, weight_decay=0.1))
ENCODER = {name: tiny.random_params(5)[name] for name in ("embedding", "layers")}


def rate(step):
    return jnp.float32(1e-3) / (1 + step)


def begin(seeds, encoder=ENCODER):
    init = jax.jit(lambda encoder, seeds: init_finetune_state(OBJECTIVE, OPTIMIZER, encoder, seeds))
    return init(encoder, jnp.array(seeds, jnp.uint32))


def batches():
    """[S, B, …] of each step; rows with fillers, which weigh nothing."""
    found = []
    for step in range(STEPS):
        tokens = [tiny.random_tokens(10 * step + place, 4) for place in range(len(SEEDS))]
        source = tiny.generator(100 + step)
        found.append(
            {
                "tokens": np.stack(tokens),
                "targets": source.integers(0, 3, (len(SEEDS), 4)).astype(np.int32),
                "weights": np.tile(np.float32([1, 1, 1, 0]), (len(SEEDS), 1)),
            }
        )
    return found


def trained(places, **changes):
    """The state after all steps, and the metrics of each, of the seeds at these places."""
    seeds = [SEEDS[place] for place in places]
    objective = dataclasses.replace(OBJECTIVE, **changes)
    step = jax.jit(make_finetune_step(objective, OPTIMIZER, rate, seeds))
    state, metrics = begin(seeds), []
    for batch in batches():
        state, found = step(state, jax.tree.map(lambda leaf: leaf[list(places)], batch))
        metrics.append(found)
    return jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def together():
    return trained(range(len(SEEDS)))


@pytest.fixture(scope="module")
def alone():
    return [trained([place]) for place in range(len(SEEDS))]


def assert_close(left, right, **tolerance):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True
    ):
        np.testing.assert_allclose(one, other, err_msg=jax.tree_util.keystr(path), **tolerance)


def seed_of(state, place):
    return jax.tree.map(lambda leaf: leaf[place], state)


def test_seeds_side_by_side_are_each_seed_alone_with_dropout(together, alone):
    for place, (state, _) in enumerate(alone):
        assert_close(seed_of(together[0], place), seed_of(state, 0), rtol=1e-5, atol=1e-6)
    assert (together[0].run.step == STEPS).all()


def test_the_metrics_are_those_of_all_seeds(together, alone):
    for step, found in enumerate(together[1]):
        each = [metrics[step] for _, metrics in alone]
        for name in ("loss", "correct", "count"):
            total = sum(getattr(metrics.sums.predictions, name) for metrics in each)
            assert getattr(found.sums.predictions, name) == pytest.approx(total, rel=1e-5)
        assert found.sums.predictions.count == 9  # Three rows of three seeds.
        norm = np.mean([metrics.gradient_norm for metrics in each])
        assert found.gradient_norm == pytest.approx(norm, rel=1e-5)
        assert found.learning_rate == pytest.approx(1e-3 / (1 + step)) and found.applied == 1


def test_seeds_differ_in_head_and_dropout_and_not_in_the_encoder():
    state = jax.device_get(begin(SEEDS))
    kernel = state.run.params["head"]["projection"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])
    for name in ("embedding", "layers"):
        for place in range(len(SEEDS)):
            assert_close(seed_of(state.run.params[name], place), ENCODER[name], rtol=0)
    # The same batch for two seeds that begin with the same weights: dropout makes the difference.
    twice = jax.tree.map(lambda leaf: np.stack([leaf[0], leaf[0]]), batches()[0])
    same = jax.tree.map(lambda leaf: jnp.stack([leaf[0], leaf[0]]), begin(SEEDS[:2]))
    step = jax.jit(make_finetune_step(OBJECTIVE, OPTIMIZER, rate, SEEDS[:2]))
    after = jax.device_get(step(same, twice)[0])
    kernels = after.run.params["layers"]["mlp"]["up"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])


def test_dropout_takes_part(together):
    encoder = dataclasses.replace(tiny.CONFIG, **tiny.WITHOUT_DROPOUT)
    head = dataclasses.replace(OBJECTIVE.head, dropout_rate=0.0)
    state, _ = trained(range(len(SEEDS)), encoder=encoder, head=head)
    kernel = ("layers", "mlp", "up", "kernel")
    one, other = together[0].run.params, state.run.params
    for name in kernel:
        one, other = one[name], other[name]
    assert np.abs(one - other).max() > 1e-4


def test_without_an_encoder_all_weights_are_drawn():
    state = jax.device_get(begin(SEEDS, encoder={}))
    assert jax.tree.structure(state) == jax.tree.structure(begin(SEEDS))
    table = state.run.params["embedding"]["token"]["embedding"][:, 4 : tiny.CONFIG.vocab_size]
    assert table.std() == pytest.approx(0.02, rel=0.1)
    assert not np.allclose(table[0], table[1])
    again = jax.device_get(begin(SEEDS[1:], encoder={}))
    assert_close(seed_of(state.run.params, 1), seed_of(again.run.params, 0), rtol=1e-6, atol=1e-7)


def test_an_update_that_is_not_finite_is_left_out_for_its_seed_only():
    step = jax.jit(make_finetune_step(OBJECTIVE, OPTIMIZER, rate, SEEDS))
    before = begin(SEEDS)
    kernel = before.run.params["head"]["projection"]["kernel"]
    before.run.params["head"]["projection"]["kernel"] = kernel.at[1].set(jnp.nan)
    after, metrics = jax.device_get(step(before, batches()[0]))
    assert metrics.applied == 0
    dense = [state.run.params["head"]["dense"]["kernel"] for state in (before, after)]
    assert (dense[0][1] == dense[1][1]).all()
    assert not np.allclose(dense[0][0], dense[1][0]) and not np.allclose(dense[0][2], dense[1][2])


def test_what_is_not_projected_or_looked_up_does_not_decay():
    """Rows that weigh nothing give a gradient of 0, so that the decay alone moves the weights."""
    nothing = {**batches()[0], "weights": np.zeros((len(SEEDS), 4), np.float32)}
    before = jax.device_get(begin(SEEDS))
    step = jax.jit(make_finetune_step(OBJECTIVE, OPTIMIZER, rate, SEEDS))
    # Biases of a drawn head are 0, which no decay changes.
    moved = jax.tree.map(lambda leaf: leaf + np.float32(0.5), before.run.params)
    run = dataclasses.replace(before.run, params=moved)
    after = jax.device_get(step(dataclasses.replace(before, run=run), nothing)[0].run.params)
    places = jax.tree_util.tree_leaves_with_path(moved)
    kept = set()
    for (path, old), new in zip(places, jax.tree.leaves(after), strict=True):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if np.array_equal(new, old):
            kept.add(name)
        else:
            assert name in ("kernel", "embedding")
            np.testing.assert_allclose(new, old * (1 - 1e-3 * 0.1), rtol=1e-6)
    assert kept == {"bias", "scale"}


# ---- The best weights ---------------------------------------------------------------------------


def numbered(number, best, scores):
    """A state whose weights are a number, by seed, and whose best ones others."""
    leaf = np.full((3, 2), number, np.float32)
    kept = np.repeat(np.float32(best)[:, None], 2, axis=1)
    run = TrainState(step=np.full(3, 7), params={"w": leaf}, optimizer=(), average={})
    return FinetuneState(run, {"w": kept}, np.float32(scores))


def test_the_best_weights_are_kept_by_seed():
    never = -np.inf
    state = adopt_best(numbered(9, [1, 2, 3], [never, 0.5, 0.7]), np.float32([-0.2, 0.6, 0.4]))
    np.testing.assert_array_equal(state.best["w"][:, 0], [9, 9, 3])
    np.testing.assert_allclose(state.best_score, [-0.2, 0.6, 0.7])
    np.testing.assert_array_equal(state.run.params["w"], np.full((3, 2), 9))


def test_of_equal_scores_the_first_stays():
    state = adopt_best(numbered(9, [1, 2, 3], [0.5, 0.5, 0.0]), np.float32([0.5, 0.4, 0.0]))
    np.testing.assert_array_equal(state.best["w"][:, 0], [1, 2, 3])


def test_before_any_evaluation_the_best_are_the_first_ones():
    state = jax.device_get(begin(SEEDS))
    assert_close(state.best, state.run.params, rtol=0)
    assert (state.best_score == -np.inf).all()
