"""One update: the parts of a batch, the devices and the padding slots change nothing."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.config import MeshConfig
from roberta_jax.data.records import open_dataset
from roberta_jax.encoder.dropout import row_keys
from roberta_jax.encoder.model import init_params
from roberta_jax.objective.masking import MaskedBatch, Masker, masking_key
from roberta_jax.optim.schedule import make_schedule
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.placement import place
from roberta_jax.train.inputs import InputMaker, Inputs
from roberta_jax.train.microbatches import with_microbatches
from roberta_jax.train.plan import make_plan
from roberta_jax.train.programs import make_programs
from roberta_jax.train.run_data import resolve
from roberta_jax.train.state import init_key
from roberta_jax.train.step import Pretraining
from roberta_jax.train.update import gradient_of
from tests.train.meshes import ONE, small_mesh
from tests.train.runs import tiny_config

ROWS = 16
KEYS = np.arange(ROWS, dtype=np.uint32) * 2654435761  # Dropout keys of the rows.


@dataclasses.dataclass
class Rows:
    tokens: np.ndarray
    index: np.ndarray
    epoch: np.ndarray


@pytest.fixture(scope="module")
def data(dataset):
    return open_dataset(dataset, "train")


@pytest.fixture(scope="module")
def config(data):
    return resolve(tiny_config(), data)


def batch_of(data, first=0, count=ROWS):
    index = np.arange(first, first + count)
    tokens = data.read(index).astype(np.int32)
    return Rows(tokens, index.astype(np.uint32), np.zeros(count, np.uint32))


def masked_of(data, config, weights_of_row=None):
    """A MaskedBatch; row i has `weights_of_row[i]` predictions."""
    rows = batch_of(data)
    masker = Masker.of(config.masking, data.tokenizer())
    masked = masker(rows.tokens, jnp.asarray(rows.index), jnp.asarray(rows.epoch), masking_key(3))
    if weights_of_row is None:
        return masked
    slots = np.arange(masked.weights.shape[1])
    weights = (slots < np.asarray(weights_of_row)[:, None]).astype(np.float32)
    return MaskedBatch(masked.tokens, masked.positions, masked.targets, jnp.asarray(weights))


@functools.cache
def gradient_function(num_microbatches, vocab_size):
    config = tiny_config(encoder__vocab_size=vocab_size)

    @jax.jit
    def gradient(params, batch, keys):
        inputs = Inputs(batch, keys=keys)
        tree, sums = gradient_of(
            Pretraining(config, None), params, inputs, num_microbatches=num_microbatches
        )
        return tree, sums.predictions

    return gradient


def gradient(config, batch, num_microbatches, keys=KEYS):
    """With dropout, whose keys belong to the rows."""
    params = init_params(config.encoder, jax.random.key(0))
    function = gradient_function(num_microbatches, config.encoder.vocab_size)
    keys = None if keys is None else jnp.asarray(keys)
    return jax.device_get(function(params, batch, keys))


def assert_close(left, right):
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7, err_msg=str(path))


# 0 to 5 predictions a row, unevenly over every way to divide the rows.
UNEQUAL = [0, 5, 1, 0, 2, 5, 5, 5, 0, 0, 0, 1, 3, 0, 4, 0]


@pytest.mark.parametrize("num_microbatches", [2, 4])
def test_the_parts_of_a_batch_do_not_change_its_gradient(data, config, num_microbatches):
    batch = masked_of(data, config, UNEQUAL)
    whole, sums = gradient(config, batch, 1)
    parts, sums_of_parts = gradient(config, batch, num_microbatches)
    assert sums.count == sums_of_parts.count == sum(UNEQUAL)
    assert_close(parts, whole)
    np.testing.assert_allclose(sums_of_parts.loss, sums.loss, rtol=1e-5)
    assert sums_of_parts.correct == sums.correct


def test_the_gradient_is_that_of_the_mean_over_predictions(data, config):
    """Twice the same rows have the same mean, so the same gradient."""
    batch = masked_of(data, config, [5] * 8 + [0] * 8)
    twice = jax.tree.map(lambda x: jnp.concatenate([x[:8], x[:8]]), batch)
    keys = np.concatenate([KEYS[:8], KEYS[:8]])
    once, sums = gradient(config, batch, 1, keys)
    again, double = gradient(config, twice, 1, keys)
    assert double.count == 2 * sums.count == 80
    assert_close(again, once)


@pytest.mark.parametrize("num_microbatches", [1, 4])
def test_a_batch_without_predictions_has_no_loss_and_no_gradient(data, config, num_microbatches):
    tree, sums = gradient(config, masked_of(data, config, [0] * ROWS), num_microbatches)
    assert (sums.loss, sums.correct, sums.count) == (0, 0, 0)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(tree))


def programs_of(config, data, mesh):
    """The two functions of a run of one phase: its beginning, and its step."""
    plan = with_microbatches(config, make_plan(config, lambda path: len(data)), mesh)
    maker = InputMaker.of(config, data.tokenizer(), data)
    programs = make_programs(config, plan, maker, mesh)
    return programs.init, *programs.steps


def run_steps(config, data, mesh, count):
    """(state, metrics of every step) after `count` steps on batches in the order of the rows."""
    with jax.set_mesh(mesh):
        init, step = programs_of(config, data, mesh)
        state, metrics = init(), []
        for number in range(count):
            state, found = step(state, place(batch_of(data, ROWS * number), mesh))
            metrics.append(jax.device_get(found))
        return jax.device_get(state), metrics


@pytest.fixture(scope="module")
def on_eight(config, data):
    return run_steps(config, data, make_mesh(MeshConfig()), 3)


@pytest.mark.parametrize(
    "shape", [ONE, pytest.param((2, 2, 1, 2), marks=pytest.mark.slow)], ids=str
)
def test_the_devices_do_not_change_a_step(config, data, on_eight, shape):
    state, metrics = run_steps(config, data, small_mesh(shape), 3)
    wanted, wanted_metrics = on_eight
    for left, right in zip(metrics, wanted_metrics, strict=True):
        left_sums, right_sums = left.sums.predictions, right.sums.predictions
        assert left_sums.count == right_sums.count  # The masks are the same ones.
        np.testing.assert_allclose(left_sums.loss, right_sums.loss, rtol=1e-5)
        np.testing.assert_allclose(left.gradient_norm, right.gradient_norm, rtol=1e-4)
    for left, right in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(wanted.params), strict=True
    ):
        # Adam divides by the gradient's size, so rounding in a tiny gradient shows; a step is 1e-3.
        np.testing.assert_allclose(left, right, atol=5e-5)


def test_a_step_reports_its_rate_and_the_size_of_the_gradient(config, data, on_eight):
    state, metrics = on_eight
    rate = make_schedule(config.schedule, make_plan(config, lambda path: 1).stretches)
    assert [float(entry.learning_rate) for entry in metrics] == [
        pytest.approx(float(rate(jnp.int32(number))), rel=1e-6) for number in range(3)
    ]
    assert all(entry.applied == 1 for entry in metrics)
    assert state.step == 3
    masked = masked_of(data, config)
    keys = row_keys(config.seed, jnp.int32(0), ROWS)
    tree, sums = gradient_function(1, config.encoder.vocab_size)(
        init_params(config.encoder, init_key(config.seed)), masked, keys
    )
    norm = np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))
    np.testing.assert_allclose(metrics[0].gradient_norm, norm, rtol=1e-4)
    np.testing.assert_allclose(metrics[0].sums.predictions.loss, sums.loss, rtol=1e-5)


def test_the_state_is_donated_and_stays_where_the_tables_say(config, data):
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        init, step = programs_of(config, data, mesh)
        before = init()
        after, _ = step(before, place(batch_of(data), mesh))
        jax.block_until_ready(after)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(after):
        assert leaf.sharding.mesh.shape == mesh.shape, path


@pytest.mark.slow
def test_the_loss_falls_on_rows_that_are_seen_again(data):
    config = resolve(
        tiny_config(
            optimizer__peak_learning_rate=3e-3,
            encoder__embedding_dropout_rate=0.0,
            encoder__dropout_rate=0.0,
            encoder__attention_dropout_rate=0.0,
            train__duration="200 steps",
        ),
        data,
    )
    mesh = small_mesh(ONE)
    with jax.set_mesh(mesh):
        init, step = programs_of(config, data, mesh)
        state, batch, losses = init(), place(batch_of(data), mesh), []
        for _ in range(150):
            state, metrics = step(state, batch)
            losses.append(float(metrics.sums.predictions.loss / metrics.sums.predictions.count))
    assert losses[0] == pytest.approx(np.log(300), abs=0.1)  # Nothing is known yet.
    assert losses[-1] < losses[0] - 1.5


@pytest.mark.slow
def test_examples_of_a_packed_row_are_trained_as_if_each_had_its_own(data, config):
    """Loss and gradient of two examples in one row are those of the two in rows of their own."""
    tokenizer = data.tokenizer()
    first, second = [0, 10, 11, 12, 13, 2], [0, 14, 15, 16, 2]
    length = len(first) + len(second)

    def batch(rows, positions, targets, weights, segments=None):
        tokens = np.full((len(rows), length), tokenizer.pad_id, np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        if segments == "example":
            segments = jnp.cumsum(tokens == 0, axis=1, dtype=jnp.int32)
        return MaskedBatch(
            jnp.asarray(tokens),
            jnp.asarray(positions, jnp.int32),
            jnp.asarray(targets, jnp.int32),
            jnp.asarray(weights, jnp.float32),
            segments,
        )

    packed = ([[*first, *second]], [[2, 8]], [[20, 21]], [[1, 1]])
    apart = ([first, second], [[2, 0], [2, 0]], [[20, 0], [21, 0]], [[1, 0], [1, 0]])
    wanted, sums = gradient(config, batch(*apart), 1, keys=None)
    found, found_sums = gradient(config, batch(*packed, "example"), 1, keys=None)
    np.testing.assert_allclose(found_sums.loss, sums.loss, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    # Without the segments, the examples see each other.
    _, seen = gradient(config, batch(*packed), 1, keys=None)
    assert abs(float(seen.loss - sums.loss)) > 1e-4


@pytest.mark.slow
def test_the_gradient_is_summed_over_the_devices_once_a_step(data, config):
    """However many microbatches there are: nothing is summed over devices in a loop over them."""
    train = dataclasses.replace(config.train, batch_size=32, num_microbatches=4)
    config = dataclasses.replace(config, train=train)
    mesh = small_mesh((8, 1, 1, 1))  # Every sum over devices is one over the data axis.
    with jax.set_mesh(mesh):
        init, step = programs_of(config, data, mesh)
        state = jax.eval_shape(init)
        text = step.lower(state, place(batch_of(data, 0, 32), mesh)).compile().as_text()
    summed = 0
    for block in re.split(r"\n(?=\S)", text):  # One computation each: the bodies of loops, …
        sums = re.findall(r"= (.*?) (?:all-reduce|reduce-scatter)(?:-start)?\(", block)
        shapes = re.findall(r"f32\[([\d,]+)\]", " ".join(sums))
        numbers = sum(math.prod(map(int, shape.split(","))) for shape in shapes)
        assert not numbers or block.startswith("ENTRY"), "it is summed in a loop"
        summed += numbers
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert num_params <= summed <= 1.1 * num_params


@pytest.mark.parametrize("where", ["loss", pytest.param("gradient", marks=pytest.mark.slow)])
def test_an_update_that_is_not_finite_leaves_the_state_as_it_was(data, where):
    config = resolve(
        tiny_config(
            optimizer__average_decay=0.5,
            # An initial standard deviation of 1e38 overflows in the forward pass; a finite loss
            # whose gradient is not comes from a z-loss of huge logits, which is not in the loss.
            encoder__initializer_range=1e38 if where == "loss" else 0.02,
            objective__z_loss_weight=0.5 if where == "gradient" else 0.0,
        ),
        data,
    )
    mesh = small_mesh(ONE)
    with jax.set_mesh(mesh):
        init, step = programs_of(config, data, mesh)
        state = init()
        if where == "gradient":
            bias = state.params["head"]["bias"]
            state.params["head"]["bias"] = bias.at[:].set(1e38)
        before = jax.device_get(state)
        after, metrics = jax.device_get(step(state, place(batch_of(data), mesh)))
    assert metrics.applied == 0
    assert np.isfinite(metrics.sums.predictions.loss) == (where == "gradient")
    assert after.step == 1 and before.step == 0
    for one, other in zip(
        jax.tree.leaves((after.params, after.optimizer, after.average)),
        jax.tree.leaves((before.params, before.optimizer, before.average)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_average_follows_the_weights(data):
    config = resolve(tiny_config(optimizer__average_decay=0.5), data)
    mesh = small_mesh(ONE)
    with jax.set_mesh(mesh):
        init, step = programs_of(config, data, mesh)
        state = init()
        average = jax.device_get(state.params)
        for number in range(3):
            state, _ = step(state, place(batch_of(data, ROWS * number), mesh))
            decay = min(0.5, (1 + number) / (10 + number))
            average = jax.tree.map(
                lambda old, new, decay=decay: decay * old + (1 - decay) * np.asarray(new),
                average,
                jax.device_get(state.params),
            )
        assert_close(jax.device_get(state.average), average)
        assert state.evaluated is state.average


def test_the_z_loss_draws_the_logits_together(data, config):
    """Its weight is that of the mean of log(sum(exp(logits)))^2 over the predictions."""
    batch, params = masked_of(data, config), init_params(config.encoder, jax.random.key(0))
    params["head"]["bias"] = params["head"]["bias"] + 3.0  # Shifts log(sum(exp)), not the softmax.

    def bias_gradient(weight):
        changed = dataclasses.replace(
            config, objective=dataclasses.replace(config.objective, z_loss_weight=weight)
        )
        tree, _ = jax.jit(
            lambda params: gradient_of(
                Pretraining(changed, None), params, Inputs(batch), num_microbatches=1
            )
        )(params)
        return np.asarray(tree["head"]["bias"])[: config.encoder.vocab_size]

    # d/dshift of z^2 is 2z, with z near 3 + log(300).
    difference = (bias_gradient(0.1) - bias_gradient(0.0)).sum()
    assert difference == pytest.approx(0.1 * 2 * (3 + np.log(300)), rel=0.01)
