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
    return jnp.float32(1) / (1 + step)


def begin(seeds, encoder=ENCODER):
    init = jax.jit(lambda encoder, seeds: init_finetune_state(OBJECTIVE, OPTIMIZER, encoder, seeds))
    return init(encoder, jnp.array(seeds, jnp.uint32))


@pytest.mark.parametrize("task", ["classification", "choice", "tokens"])
def test_a_pooler_is_the_beginning_of_a_head_on_the_first_token_only(task):
    head = TaskHead(task=task, num_outputs=1 if task == "choice" else 3)
    objective = TaskObjective(tiny.CONFIG, head, task)
    wide = tiny.CONFIG.hidden_size
    pooler = {"kernel": jnp.full((wide, wide), 0.25), "bias": jnp.full(wide, 0.5)}
    seeds = jnp.array(SEEDS, jnp.uint32)
    with_it = init_finetune_state(objective, OPTIMIZER, {**ENCODER, "pooler": pooler}, seeds)
    without = init_finetune_state(objective, OPTIMIZER, ENCODER, seeds)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), with_it, without)
    found, drawn = with_it.run.params["head"], without.run.params["head"]
    np.testing.assert_array_equal(found["projection"]["kernel"], drawn["projection"]["kernel"])
    if task == "tokens":
        assert found.keys() == drawn.keys() == {"projection"}
    else:
        assert (found["dense"]["kernel"] == 0.25).all() and (found["dense"]["bias"] == 0.5).all()


def stepping(seeds, objective=OBJECTIVE):
    """(state, batch) → (state, metrics)."""
    step = jax.jit(make_finetune_step(objective, OPTIMIZER, rate))
    return lambda state, batch: step(state, batch, jnp.array(seeds, jnp.uint32), jnp.float32(1e-3))


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
    step = stepping(seeds, objective)
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


@pytest.mark.slow
def test_rows_that_are_filled_up_further_make_no_difference():
    """A seed alone has rows of its own length; beside another one, of the other's."""
    assert tiny.CONFIG.attention_dropout_rate > 0 and tiny.CONFIG.num_heads > 1
    seeds, length = SEEDS[:2], 11
    short = jax.tree.map(lambda leaf: leaf[:1], batches()[0])
    tokens = np.full((1, 4, length), tiny.CONFIG.pad_id, np.int32)
    tokens[0, :, :7] = tiny.generator(3).integers(4, tiny.CONFIG.vocab_size, (4, 7))
    short["tokens"] = tokens
    filled = np.pad(tokens, ((0, 0), (0, 0), (0, 5)), constant_values=tiny.CONFIG.pad_id)
    both = jax.tree.map(lambda leaf: leaf[:2], batches()[0])
    both["tokens"] = np.concatenate([filled, tiny.random_tokens(8, 4, length + 5)[None]])
    for name in ("targets", "weights"):
        both[name][0] = short[name][0]
    alone, beside = (
        stepping(some)(begin(some), batch)[0] for some, batch in ((seeds[:1], short), (seeds, both))
    )
    assert_close(seed_of(alone.run, 0), seed_of(beside.run, 0), rtol=1e-5, atol=1e-7)


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
    step = stepping(SEEDS[:2])
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
    step = stepping(SEEDS)
    before = begin(SEEDS)
    kernel = before.run.params["head"]["projection"]["kernel"]
    before.run.params["head"]["projection"]["kernel"] = kernel.at[1].set(jnp.nan)
    after, metrics = jax.device_get(step(before, batches()[0]))
    assert after.left_out.tolist() == [0, 1, 0] and after.run.step.tolist() == [1, 1, 1]
    # The others go on, and the metrics are theirs.
    assert metrics.applied == 1 and metrics.sums.predictions.count == 6
    assert np.isfinite(metrics.sums.predictions.loss) and np.isfinite(metrics.gradient_norm)
    dense = [state.run.params["head"]["dense"]["kernel"] for state in (before, after)]
    assert (dense[0][1] == dense[1][1]).all()
    assert not np.allclose(dense[0][0], dense[1][0]) and not np.allclose(dense[0][2], dense[1][2])


# ---- The best weights ---------------------------------------------------------------------------


def test_the_best_weights_are_kept_by_seed():
    leaf, kept = np.full((3, 2), 9, np.float32), np.repeat(np.float32([[1], [2], [3]]), 2, axis=1)
    run = TrainState(step=np.full(3, 7), params={"w": leaf}, optimizer=(), average={})
    before = FinetuneState(run, {"w": kept}, np.zeros(3, np.int32))
    state = adopt_best(before, np.array([True, True, False]))
    np.testing.assert_array_equal(state.best["w"], [[9, 9], [9, 9], [3, 3]])
    np.testing.assert_array_equal(state.run.params["w"], leaf)


def test_before_any_evaluation_the_best_are_the_first_ones():
    state = jax.device_get(begin(SEEDS))
    assert_close(state.best, state.run.params, rtol=0)
