"""One update: the parts of a batch, the devices and the padding slots change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from roberta_jax.config import MeshConfig
from roberta_jax.data.records import open_dataset
from roberta_jax.encoder.dropout import row_keys
from roberta_jax.encoder.model import init_params
from roberta_jax.objective.masking import MaskedBatch, Masker
from roberta_jax.optim.schedule import linear_warmup_linear_decay
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.placement import place
from roberta_jax.train.pretrain import resolve
from roberta_jax.train.state import init_key
from roberta_jax.train.step import compile_step, gradient_of_batch, masking_key
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
    config = tiny_config(train__num_microbatches=num_microbatches, encoder__vocab_size=vocab_size)
    return jax.jit(lambda params, batch, keys: gradient_of_batch(config, params, batch, keys))


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


def small_mesh(shape):
    devices = jax.devices()[: int(np.prod(shape))]
    axes = ("data", "fsdp", "tensor")
    return jax.make_mesh(shape, axes, devices=devices, axis_types=(AxisType.Auto,) * 3)


def run_steps(config, data, mesh, count):
    """(state, metrics of every step) after `count` steps on batches in the order of the rows."""
    masker = Masker.of(config.masking, data.tokenizer())
    with jax.set_mesh(mesh):
        init, step, _ = compile_step(config, masker, mesh)
        state, metrics = init(), []
        for number in range(count):
            state, found = step(state, place(batch_of(data, ROWS * number), mesh))
            metrics.append(jax.device_get(found))
        return jax.device_get(state), metrics


@pytest.fixture(scope="module")
def on_eight(config, data):
    return run_steps(config, data, make_mesh(MeshConfig()), 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_the_devices_do_not_change_a_step(config, data, on_eight, shape):
    state, metrics = run_steps(config, data, small_mesh(shape), 3)
    wanted, wanted_metrics = on_eight
    for left, right in zip(metrics, wanted_metrics, strict=True):
        assert left.sums.count == right.sums.count  # The masks are the same ones.
        np.testing.assert_allclose(left.sums.loss, right.sums.loss, rtol=1e-5)
        np.testing.assert_allclose(left.gradient_norm, right.gradient_norm, rtol=1e-4)
    for left, right in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(wanted.params), strict=True
    ):
        # Adam divides by the gradient's size, so rounding in a tiny gradient shows; a step is 1e-3.
        np.testing.assert_allclose(left, right, atol=5e-5)


def test_a_step_reports_its_rate_and_the_size_of_the_gradient(config, data, on_eight):
    state, metrics = on_eight
    rate = linear_warmup_linear_decay(config.optimizer, config.train.num_steps)
    assert [float(entry.learning_rate) for entry in metrics] == [float(rate(n)) for n in range(3)]
    assert state.step == 3
    masked = masked_of(data, config)
    keys = row_keys(config.seed, jnp.int32(0), ROWS)
    tree, sums = gradient_function(1, config.encoder.vocab_size)(
        init_params(config.encoder, init_key(config.seed)), masked, keys
    )
    norm = np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))
    np.testing.assert_allclose(metrics[0].gradient_norm, norm, rtol=1e-4)
    np.testing.assert_allclose(metrics[0].sums.loss, sums.loss, rtol=1e-5)


def test_the_state_is_donated_and_stays_where_the_tables_say(config, data):
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        init, step, _ = compile_step(config, Masker.of(config.masking, data.tokenizer()), mesh)
        before = init()
        after, _ = step(before, place(batch_of(data), mesh))
        jax.block_until_ready(after)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(after):
        assert leaf.sharding.mesh.shape == mesh.shape, path


def test_the_loss_falls_on_rows_that_are_seen_again(data):
    config = resolve(
        tiny_config(
            optimizer__peak_learning_rate=3e-3,
            encoder__dropout_rate=0.0,
            encoder__attention_dropout_rate=0.0,
            train__num_steps=200,
        ),
        data,
    )
    mesh = small_mesh((1, 1, 1))
    with jax.set_mesh(mesh):
        init, step, _ = compile_step(config, Masker.of(config.masking, data.tokenizer()), mesh)
        state, batch, losses = init(), place(batch_of(data), mesh), []
        for _ in range(150):
            state, metrics = step(state, batch)
            losses.append(float(metrics.sums.loss / metrics.sums.count))
    assert losses[0] == pytest.approx(np.log(300), abs=0.1)  # Nothing is known yet.
    assert losses[-1] < losses[0] - 1.5


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
