"""The loss on the validation rows, whatever the batches and devices."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roberta_jax.config import MeshConfig
from roberta_jax.data.records import open_dataset
from roberta_jax.encoder.model import bind, init_params
from roberta_jax.objective.loss import LossSums
from roberta_jax.objective.masking import Masker
from roberta_jax.objective.next_sentence import NextSentenceSums
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train import evaluate as evaluate_module
from roberta_jax.train.evaluate import Evaluation, make_evaluator, perplexity
from roberta_jax.train.inputs import BatchSums, InputMaker
from roberta_jax.train.run_data import resolve
from tests.train.meshes import small_mesh
from tests.train.runs import tiny_config


@pytest.fixture(scope="module")
def rows(dataset):
    return open_dataset(dataset, "validation")


@pytest.fixture(scope="module")
def config(rows):
    return resolve(tiny_config(), rows)


@pytest.fixture(scope="module")
def params(config):
    return init_params(config.encoder, jax.random.key(8))


def evaluate(config, rows, params, *, mesh=None, batch_size=16, max_rows=10**6):
    mesh = mesh or make_mesh(MeshConfig())
    maker = InputMaker.of(config, rows.tokenizer(), rows)
    with jax.set_mesh(mesh):
        evaluator = make_evaluator(config.encoder, maker, mesh)
        return evaluator(params, rows, batch_size=batch_size, max_rows=max_rows)


def directly(config, rows, params, index):
    """The same by one product over all rows, in float64 from the logits on."""
    tokens = rows.read(index).astype(np.int32)
    masker = Masker.of(config.masking, rows.tokenizer())

    @jax.jit
    def compute(params, tokens, numbers):
        key = jax.random.key(evaluate_module._EVALUATION_SEED)
        masked = masker(tokens, numbers, jnp.zeros_like(numbers), key)
        return masked, bind(config.encoder, params)(masked.tokens, masked.positions)

    masked, logits = compute(params, tokens, index.astype(np.uint32))
    logits = np.asarray(logits, np.float64)[..., : config.encoder.vocab_size]
    log_total = np.log(np.exp(logits).sum(-1))
    chosen = np.take_along_axis(logits, np.asarray(masked.targets)[..., None], -1)[..., 0]
    weights = np.asarray(masked.weights)
    hits = (logits.argmax(-1) == np.asarray(masked.targets)) * weights
    count = weights.sum()
    return ((log_total - chosen) * weights).sum() / count, hits.sum() / count, int(count)


def assert_equal(evaluation, wanted):
    loss, accuracy, count = wanted
    assert evaluation.loss_nats == pytest.approx(loss, rel=1e-5)
    assert evaluation.masked_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert evaluation.num_predictions == count


def test_it_is_the_mean_over_all_predictions_of_all_rows(config, rows, params):
    assert len(rows) % 16  # The last batch is filled up with rows that must not count.
    wanted = directly(config, rows, params, np.arange(len(rows)))
    assert_equal(evaluate(config, rows, params), wanted)


def test_a_limit_takes_evenly_spaced_rows(config, rows, params):
    index = np.arange(10) * len(rows) // 10
    wanted = directly(config, rows, params, index)
    assert_equal(evaluate(config, rows, params, max_rows=10), wanted)


@pytest.mark.parametrize("batch_size", [8, 64])
def test_the_size_of_the_batches_does_not_change_it(config, rows, params, batch_size):
    wanted = directly(config, rows, params, np.arange(len(rows)))
    assert_equal(evaluate(config, rows, params, batch_size=batch_size), wanted)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 1, 2), (2, 1, 4, 1)], ids=str)
def test_the_devices_do_not_change_it(config, rows, params, shape):
    wanted = evaluate(config, rows, params)
    found = evaluate(config, rows, params, mesh=small_mesh(shape))
    assert found.num_predictions == wanted.num_predictions
    assert found.loss_nats == pytest.approx(wanted.loss_nats, rel=1e-6)
    assert found.masked_accuracy == wanted.masked_accuracy


def test_every_call_uses_the_same_masks_and_no_dropout(config, rows, params):
    assert config.encoder.dropout_rate > 0
    assert evaluate(config, rows, params) == evaluate(config, rows, params)


def test_the_seed_of_the_run_does_not_change_it(config, rows, params):
    other = dataclasses.replace(config, seed=77)
    assert evaluate(other, rows, params) == evaluate(config, rows, params)


def test_a_model_that_knows_nothing_has_the_loss_of_a_guess(config, rows, params):
    nothing = jax.tree.map(jnp.zeros_like, params)
    found = evaluate(config, rows, nothing)
    assert found.loss_nats == pytest.approx(math.log(300), rel=1e-6)
    assert found.perplexity == pytest.approx(300, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "value"),
    [(0.0, 1.0), (1.0, math.e), (699.9, math.exp(699.9)), (700.0, math.inf), (1e30, math.inf)],
)
def test_a_perplexity_that_overflows_is_infinite(loss, value):
    assert perplexity(loss) == value


def test_the_perplexity_of_what_is_not_a_number_is_infinite():
    assert perplexity(math.nan) == math.inf and perplexity(math.inf) == math.inf


def test_means_come_from_sums_and_nothing_is_divided_by_zero():
    masked, pairs = LossSums(10.0, 2.0, 4.0), NextSentenceSums(3.0, 1.0, 2.0)
    found = Evaluation.of(BatchSums(masked, pairs, 7.0))
    assert found == Evaluation(2.5, 0.5, 4, 1.5, 0.5)
    assert found.entry() == {
        "num_predictions": 4,
        "loss_nats": 2.5,
        "perplexity": math.exp(2.5),
        "masked_accuracy": 0.5,
        "next_sentence_loss_nats": 1.5,
        "next_sentence_accuracy": 0.5,
    }
    nothing = Evaluation.of(jax.device_get(BatchSums.zero()))
    assert math.isnan(nothing.loss_nats) and math.isnan(nothing.next_sentence_accuracy)
    assert nothing.num_predictions == 0 and "next_sentence_accuracy" not in nothing.entry()
