"""The loss of every kind of task is the formula that NumPy computes, over what counts only."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from roberta_jax.encoder.task_model import TaskHead, abstract_task_params, bind_task
from roberta_jax.finetune.objective import TaskObjective, head_of
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.features import NO_LABEL
from roberta_jax.tasks.task import Task
from tests.encoder import tiny
from tests.encoder.reference import PAD

CONFIG = dataclasses.replace(tiny.CONFIG, **tiny.WITHOUT_DROPOUT)
LABELS = ("bad", "good", "odd")
TASKS = {
    "classification": Task(name="t", title="T", kind="classification", labels=LABELS),
    "regression": Task(name="t", title="T", kind="regression", scale=2.0, shift=1.0),
    "tokens": Task(name="t", title="T", kind="tokens", labels=LABELS),
    "span": find_task("squad1"),
    "answerable": find_task("squad2"),
    "choice": find_task("race"),
}
TARGETS = {
    "classification": np.array([2, 0, 1], np.int32),
    "regression": np.array([0.5, -1.5, 3.0], np.float32),
    "span": np.array([[3, 5], [0, 0], [2, 2]], np.int32),
    "answerable": np.array([[3, 5], [0, 0], [2, 2]], np.int32),
    "choice": np.array([1, 0, 1], np.int32),
}
kinds = pytest.mark.parametrize("name", TASKS)


@functools.cache
def objective_of(name):
    task = TASKS[name]
    group_size = 2 if name == "choice" else 1
    return TaskObjective(CONFIG, head_of(task, dropout_rate=0.0), task.kind, group_size)


@functools.cache
def params_of(name):
    objective = objective_of(name)
    return tiny.random_like(abstract_task_params(objective.encoder, objective.head), 0)


def batch_of(name, seed=0):
    """Three predictions, of rows with 0, 5 and 1 places of padding, and two that only fill up."""
    group_size = objective_of(name).group_size
    paddings = [padding for padding in (0, 5, 1, 0, 2) for _ in range(group_size)]
    tokens = tiny.random_tokens(0, len(paddings), paddings=paddings)
    fillers = tiny.random_tokens(seed, len(paddings), paddings=paddings)[3 * group_size :]
    tokens[3 * group_size :] = fillers
    if name == "tokens":
        targets = np.where(tokens == PAD, NO_LABEL, tokens % 3).astype(np.int32)
        targets[:, 0] = NO_LABEL
    else:
        targets = TARGETS[name][[0, 1, 2, seed % 3, 1]]
    return {"tokens": tokens, "targets": targets, "weights": np.float32([1, 1, 1, 0, 0])}


@functools.cache
def program(name):
    objective = objective_of(name)

    def run(params, batch):
        inputs = objective.inputs(batch, None)

        def loss(params):
            return objective.loss(params, inputs, objective.counts(inputs))

        (value, sums), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return (*objective.outputs(params, inputs), value, sums.predictions, gradient)

    return jax.jit(run)


def evaluated(name, batch):
    """(scores, answerable, loss, sums, gradient) as the step has them."""
    return jax.device_get(program(name)(params_of(name), batch))


def losses_of(name, scores, answerable, targets):
    """(loss, weight) of every prediction, float64."""
    scores = np.asarray(scores, np.float64)
    if name == "regression":
        return (scores - targets) ** 2, np.ones(len(targets))
    if name in ("span", "answerable"):
        logs = scipy.special.log_softmax(scores, axis=1)  # Over places.
        rows = np.arange(len(targets))
        losses = -(logs[rows, targets[:, 0], 0] + logs[rows, targets[:, 1], 1]) / 2
        if name == "answerable":
            has_answer = targets[:, 0] > 0
            probability = scipy.special.expit(np.asarray(answerable, np.float64))
            losses -= np.log(np.where(has_answer, probability, 1 - probability))
        return losses, np.ones(len(targets))
    logs = scipy.special.log_softmax(scores, axis=-1)
    counts = targets != NO_LABEL
    chosen = np.take_along_axis(logs, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return -chosen, counts.astype(np.float64)


@kinds
def test_the_loss_is_the_mean_of_the_formula(name):
    batch = batch_of(name)
    scores, answerable, loss, sums, _ = evaluated(name, batch)
    losses, counts = (each[:3] for each in losses_of(name, scores, answerable, batch["targets"]))
    assert float(loss) == pytest.approx((losses * counts).sum() / counts.sum(), rel=2e-6)
    assert float(sums.loss) == pytest.approx((losses * counts).sum(), rel=2e-6)
    assert float(sums.count) == counts.sum()


@kinds
def test_what_counts_as_right(name):
    batch = batch_of(name)
    scores, _, _, sums, _ = evaluated(name, batch)
    if name == "regression":
        assert float(sums.correct) == 0  # There is no right or wrong.
        return
    axis = 1 if name in ("span", "answerable") else -1
    best = scores.argmax(axis=axis).astype(np.int32)
    if name == "tokens":
        best = np.where(batch["targets"] == NO_LABEL, NO_LABEL, best)
    batch["targets"] = best
    assert float(evaluated(name, batch)[3].correct) == float(sums.count)
    # Of a span one end that is wrong is enough; of the others it is one prediction.
    wrong = best.copy()
    place = (0, 1) if best.ndim == 2 else 0
    wrong[place] = (best[place] + 1) % 2
    batch["targets"] = wrong
    assert float(evaluated(name, batch)[3].correct) == float(sums.count) - 1


def assert_same(found, wanted, tolerance=2e-6):
    (loss, gradient), (other, other_gradient) = found, wanted
    assert float(loss) == pytest.approx(float(other), rel=tolerance)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(other_gradient))
    for left, right in zip(jax.tree.leaves(gradient), jax.tree.leaves(other_gradient), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("name", ["span", "tokens"])
def test_padding_changes_nothing(name):
    """The same rows, as short as can be: of the loss and of every gradient."""
    tokens = tiny.random_tokens(1, 5, length=11, paddings=())
    batch = {**batch_of(name), "tokens": tokens}
    if name == "tokens":
        batch["targets"] = np.where(tokens % 5, tokens % 3, NO_LABEL).astype(np.int32)
    padded = {**batch, "tokens": np.pad(tokens, ((0, 0), (0, 5)), constant_values=PAD)}
    if name == "tokens":
        padded["targets"] = np.pad(batch["targets"], ((0, 0), (0, 5)), constant_values=NO_LABEL)
    found, wanted = (evaluated(name, each) for each in (padded, batch))
    assert_same((found[2], found[4]), (wanted[2], wanted[4]))


@kinds
def test_rows_that_fill_up_a_batch_change_nothing(name):
    """Whatever they hold, and whatever their targets are."""
    batch, other = batch_of(name), batch_of(name, seed=7)
    assert not np.array_equal(batch["tokens"], other["tokens"])
    found, wanted = (evaluated(name, each) for each in (other, batch))
    assert_same((found[2], found[4]), (wanted[2], wanted[4]))
    assert float(found[3].count) == float(wanted[3].count)


@kinds
def test_a_batch_of_nothing_but_filling_has_no_loss(name):
    batch = batch_of(name)
    batch["weights"] = np.zeros(5, np.float32)
    _, _, loss, sums, gradient = evaluated(name, batch)
    assert float(loss) == 0 and float(sums.count) == 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))


def test_no_span_ends_in_padding():
    batch = batch_of("span")
    scores = evaluated("span", batch)[0]
    np.testing.assert_array_equal(np.isneginf(scores), (batch["tokens"] == PAD)[..., None] * [1, 1])


def test_the_options_of_a_choice_are_the_rows_that_stand_together():
    batch = batch_of("choice")
    found = evaluated("choice", batch)
    scores, head = found[0], objective_of("choice").head
    of_rows = bind_task(CONFIG, head, params_of("choice"))(jnp.asarray(batch["tokens"]))
    np.testing.assert_allclose(scores, np.asarray(of_rows).reshape(5, 2), rtol=0, atol=1e-6)
    # The two options of the second question the other way round, and its target with them.
    swapped = {**batch, "tokens": batch["tokens"][[0, 1, 3, 2, *range(4, 10)]]}
    swapped["targets"] = batch["targets"] ^ np.array([0, 1, 0, 0, 0], np.int32)
    again = evaluated("choice", swapped)
    np.testing.assert_allclose(again[0][1], scores[1, ::-1], rtol=0, atol=1e-6)
    assert float(again[2]) == pytest.approx(float(found[2]), rel=1e-6)


def test_the_answerability_is_learned_from_whether_there_is_an_answer():
    """Its gradient is that of a logistic regression on the first token."""
    batch = batch_of("answerable")
    _, answerable, _, _, gradient = evaluated("answerable", batch)
    has_answer = batch["targets"][:3, 0] > 0
    wanted = (scipy.special.expit(answerable[:3]) - has_answer).mean()
    found = gradient["answerable_head"]["projection"]["bias"]
    np.testing.assert_allclose(found, [wanted], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("classification", TaskHead(task="classification", num_outputs=3, dropout_rate=0.2)),
        ("regression", TaskHead(task="classification", num_outputs=1, dropout_rate=0.2)),
        ("tokens", TaskHead(task="tokens", num_outputs=3, dropout_rate=0.2)),
        ("span", TaskHead(task="span", num_outputs=2, dropout_rate=0.2)),
        ("answerable", TaskHead(task="span", num_outputs=2, dropout_rate=0.2, answerable=True)),
        ("choice", TaskHead(task="choice", num_outputs=1, dropout_rate=0.2)),
    ],
)
def test_heads_of_tasks(name, head):
    assert head_of(TASKS[name], dropout_rate=0.2) == head
