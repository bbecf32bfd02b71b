"""What is said of a split does not depend on how its rows are put into batches."""

import dataclasses
import math
import statistics

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax import config as c
from roberta_jax.encoder.task_model import abstract_task_params
from roberta_jax.finetune import evaluate as evaluate_module
from roberta_jax.finetune.evaluate import TaskEvaluation, evaluate_seeds, make_predictor
from roberta_jax.finetune.objective import TaskObjective, head_of
from roberta_jax.finetune.rows import BatchMaker, SplitRows
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.tasks.batches import evaluation_batches, row_lengths
from roberta_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.features import NO_LABEL, TaskRows, make_rows
from roberta_jax.tasks.predictions import Outputs, Predictions
from roberta_jax.tasks.scores import SCORES
from roberta_jax.tasks.task import Task
from tests.encoder import tiny
from tests.interop import foreign

TASKS = {
    "classification": Task(name="t", title="T", kind="classification", labels=("a", "b", "c")),
    "regression": Task(name="t", title="T", kind="regression"),
    "choice": Task(name="t", title="T", kind="choice"),
    "span": Task(name="t", title="T", kind="span", unanswerable=True),
    "tokens": Task(name="t", title="T", kind="tokens", labels=("O", "B-X")),
}
COUNT = 21  # Of predictions: no multiple of the devices.
NUM_SEEDS = 2


def rows_of(kind, order=None):
    """Rows of unlike lengths with targets, in this order."""
    group_size = 4 if kind == "choice" else 1
    generator = tiny.generator(3)
    ids, targets = [], []
    for _ in range(COUNT * group_size):
        length = int(generator.integers(3, 16))
        ids.append(generator.integers(4, 49, length).astype(np.int32))
        targets.append(
            {
                "classification": generator.integers(3),
                "regression": generator.standard_normal(),
                "choice": generator.integers(4),
                "span": np.sort(generator.integers(0, length, 2)),
                "tokens": generator.integers(0, 2, length).astype(np.int32),
            }[kind]
        )
    if kind == "tokens":
        for target in targets:
            target[0] = NO_LABEL
    order = np.arange(COUNT) if order is None else order
    rows = (order[:, None] * group_size + np.arange(group_size)).ravel()
    targets = [targets[number] for number in order]
    if kind != "tokens":
        targets = np.array(targets, np.float32 if kind == "regression" else np.int32)
    starts = np.array([len(ids[row]) // 2 for row in rows], np.int32)
    return TaskRows([ids[row] for row in rows], starts, targets, group_size=group_size)


def predicted(kind, rows, *, num_seeds=NUM_SEEDS, mesh=None):
    """The outputs and the loss of each seed, of weights at random."""
    task = TASKS[kind]
    objective = TaskObjective(tiny.CONFIG, head_of(task), kind, rows.group_size)
    shapes = abstract_task_params(tiny.CONFIG, objective.head)
    seeds = [tiny.random_like(shapes, seed) for seed in range(num_seeds)]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *seeds)
    mesh = make_mesh(mesh or c.MeshConfig())
    maker = BatchMaker(mesh, pad_id=1, token_types=False, max_length=16)
    with jax.set_mesh(mesh):
        return make_predictor(objective, maker, num_seeds)(params, rows)


def assert_same(kind, left, right, order=None):
    """Outputs of the same rows, the second ones in another order, and losses."""
    order = np.arange(COUNT) if order is None else order
    for one, other in zip(left[0], right[0], strict=True):
        assert len(one.values) == len(other.values) == COUNT
        for place, number in enumerate(order):
            np.testing.assert_allclose(
                other.values[place], one.values[number], rtol=1e-4, atol=1e-5
            )
        if kind == "span":
            np.testing.assert_allclose(
                other.answerable, one.answerable[order], rtol=1e-4, atol=1e-5
            )
    np.testing.assert_allclose(left[1], right[1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["classification", "span", "tokens"])
def test_neither_batch_nor_order_nor_padding_matters(kind, monkeypatch):
    straight = predicted(kind, rows_of(kind))
    order = tiny.generator(8).permutation(COUNT)
    monkeypatch.setattr(evaluate_module, "TOKENS_PER_BATCH", 16)  # A row of each device.
    monkeypatch.setattr("roberta_jax.tasks.batches.SHORTEST", 4)  # Lengths of 4, 8 and 16.
    other = predicted(kind, rows_of(kind, order), mesh=c.MeshConfig(data=2, tensor=4))
    assert_same(kind, straight, other, order)
    assert not np.allclose(straight[0][0].values[0], straight[0][1].values[0])  # Seeds differ.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "choice"])
def test_nor_of_the_other_kinds(kind, monkeypatch):
    test_neither_batch_nor_order_nor_padding_matters(kind, monkeypatch)


@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_nothing_is_dropped(kind):
    """The outputs are those of a model that has no dropout at all."""
    rows, task = rows_of(kind), TASKS[kind]
    outputs, losses = predicted(kind, rows, num_seeds=1)
    encoder = dataclasses.replace(tiny.CONFIG, **tiny.WITHOUT_DROPOUT)
    objective = TaskObjective(encoder, head_of(task, dropout_rate=0.0), kind)
    assert head_of(task).dropout_rate > 0 and tiny.CONFIG.dropout_rate > 0
    params = tiny.random_like(abstract_task_params(encoder, objective.head), 0)
    tokens = np.ones((COUNT, 16), np.int32)
    for row, ids in zip(tokens, rows.ids, strict=True):
        row[: len(ids)] = ids
    keys = jax.numpy.arange(COUNT, dtype=jax.numpy.uint32)  # Of a dropout that is not there.
    wanted = jax.jit(lambda: objective.outputs(params, {"tokens": tokens, "keys": keys})[0])()
    for ids, value, row in zip(rows.ids, outputs[0].values, np.asarray(wanted), strict=True):
        expected = row[: len(ids)] if kind == "tokens" else row
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert math.isfinite(losses[0])


def test_a_seed_beside_others_is_the_seed_alone():
    rows = rows_of("classification")
    together, alone = (predicted("classification", rows, num_seeds=count) for count in (2, 1))
    np.testing.assert_allclose(together[0][0].values, alone[0][0].values, rtol=1e-4, atol=1e-5)
    assert together[1][0] == pytest.approx(alone[1][0], rel=1e-5)


def test_rows_without_labels_have_no_loss():
    rows = rows_of("classification")
    with_labels = predicted("classification", rows, num_seeds=1)
    outputs, losses = predicted(
        "classification", dataclasses.replace(rows, targets=None), num_seeds=1
    )
    assert math.isnan(losses[0]) and math.isfinite(with_labels[1][0])
    np.testing.assert_allclose(outputs[0].values, with_labels[0][0].values, rtol=1e-5, atol=1e-6)


def batches_of(lengths, *, group_size=1, max_length=512):
    """(rows, padded length, size) of each, of eight devices; and all numbers."""
    ids = [np.zeros(length, np.int32) for length in lengths for _ in range(group_size)]
    rows = TaskRows(ids, np.zeros(len(ids), np.int32), None, group_size=group_size)
    maker = BatchMaker(
        make_mesh(c.MeshConfig()), pad_id=1, token_types=False, max_length=max_length
    )
    size_at = evaluate_module._size_at(rows, maker)
    found = list(evaluation_batches(row_lengths(rows), size_at=size_at, max_length=max_length))
    numbers = np.concatenate([numbers for numbers, _, _ in found])
    assert sorted(numbers.tolist()) == list(range(len(lengths)))
    for chosen, length, size in found:
        assert len(chosen) <= size and max(lengths[number] for number in chosen) <= length
    return [(len(chosen), length, size) for chosen, length, size in found]


def test_a_long_row_does_not_make_the_batches_of_the_short_ones_small():
    assert batches_of([16] * 2047 + [500]) == [(8 * 8, 512, 8 * 8), (1984, 16, 8 * 256)]
    # Of a batch, the first row is the longest, and only it decides.
    assert batches_of([16] * 4096 + [64] * 512) == [(512, 64, 512), (2048, 16, 2048)] + [
        (2048, 16, 2048)
    ]
    assert batches_of([500] * 20, group_size=16) == [(8, 512, 8), (8, 512, 8), (4, 512, 8)]


def test_few_rows_need_no_large_batch():
    assert batches_of([500, 3, 3]) == [(3, 512, 8)]
    assert batches_of([3] * 20) == [(20, 16, 8 * 4)]


@given(st.lists(st.integers(3, 100), min_size=1, max_size=300), st.sampled_from([1, 4]))
def test_every_row_is_in_one_batch_of_a_bounded_size(lengths, group_size):
    found = batches_of(lengths, group_size=group_size, max_length=100)
    for _, length, size in found:
        assert size % 8 == 0 and size // 8 * length * group_size <= max(4096, length * group_size)
    assert all(rows == size for rows, _, size in found[:-1])  # Only the last is filled up.
    sizes = {length: size for _, length, size in found}
    assert len(set(found) - {found[-1]}) <= len(sizes)  # A program for each length.


# ---- Scores -------------------------------------------------------------------------------------


def given(monkeypatch, by_split):
    """Splits, and a predictor that gives these predictions: split → one for each seed."""
    monkeypatch.setattr(evaluate_module, "decide", lambda task, examples, rows, output: output)
    monkeypatch.setattr(evaluate_module, "_is_finite", lambda output: True)
    return lambda params, rows: by_split[rows]


def questions(answers):
    return [
        QuestionExample(str(number), "Who?", "red blue", (Answer(text, 0),) if text else ())
        for number, text in enumerate(answers)
    ]


def test_the_threshold_of_a_seed_is_that_of_its_first_dev_split(monkeypatch):
    task = Task(name="t", title="T", kind="span", unanswerable=True, dev=("dev", "other"))
    # Three with an answer, one without; all are answered as if there always were one.
    examples = questions(["red", "blue", "red", ""])
    texts = ["red", "blue", "red", "blue"]

    def said(*no_answer):
        return Predictions(values=texts, no_answer=np.array(no_answer, np.float64))

    found = {
        # The first seed is right at a threshold from 2 to 3, the second one from -3 to -2.
        "dev rows": ([said(0, 1, 2, 3), said(-5, -4, -3, -2)], [0.5, 0.7]),
        # Between those of the two: the first seed answers all, the second one none.
        "other rows": ([said(0, 0, 0, 0), said(0, 0, 0, 0)], [8.0, 8.0]),
    }
    splits = [SplitRows("dev", examples, "dev rows"), SplitRows("other", examples, "other rows")]
    evaluation, predictions = evaluate_seeds(task, splits, None, given(monkeypatch, found))
    first, second = evaluation.thresholds
    assert 2 <= first < 3 and -3 <= second < -2
    assert [scores["dev"]["f1"] for scores in evaluation.scores] == [1.0, 1.0]
    assert [scores["other"]["f1"] for scores in evaluation.scores] == [0.75, 0.25]
    assert evaluation.losses == [0.5, 0.7] and evaluation.loss_nats == pytest.approx(0.6)
    assert predictions == [found["dev rows"][0], found["other rows"][0]]


def test_the_split_that_decides_the_threshold_is_not_the_other_one(monkeypatch):
    task = Task(name="t", title="T", kind="span", unanswerable=True, dev=("dev", "other"))
    examples = questions(["red", ""])
    said = Predictions(values=["red", "blue"], no_answer=np.array([0.0, 1.0]))
    high = Predictions(values=["red", "blue"], no_answer=np.array([5.0, 6.0]))
    found = {"dev rows": ([said], [0.0]), "other rows": ([high], [0.0])}
    splits = [SplitRows("dev", examples, "dev rows"), SplitRows("other", examples, "other rows")]
    evaluation, _ = evaluate_seeds(task, splits, None, given(monkeypatch, found))
    assert evaluation.scores[0] == {
        "dev": {"f1": 1.0, "exact_match": 1.0},
        "other": {"f1": 0.5, "exact_match": 0.5},  # Nothing is answered.
    }


def test_without_unanswerable_questions_there_is_no_threshold(monkeypatch):
    task = TASKS["classification"]
    examples = [TextExample(str(number), ("x",), number % 3) for number in range(6)]
    right = Predictions(values=np.array([0, 1, 2, 0, 1, 2]))
    wrong = Predictions(values=np.array([0, 0, 0, 0, 0, 0]))
    found = {"dev rows": ([right, wrong, right], [0.1, 0.3, 0.2])}
    splits = [SplitRows("dev", examples, "dev rows")]
    evaluation, _ = evaluate_seeds(task, splits, None, given(monkeypatch, found))
    assert evaluation.thresholds == [None] * 3
    entry = evaluation.entry()
    assert entry["dev_accuracy"] == 1.0 and entry["loss_nats"] == pytest.approx(0.2)
    assert [scores["dev"]["accuracy"] for scores in entry["seeds"]] == pytest.approx([1, 1 / 3, 1])
    assert evaluation.text() == (
        "dev accuracy 100.0 (median of 3 seeds, 33.3 to 100.0), loss 0.2000"
    )


def test_figures_of_several_splits_are_medians_and_the_first_decides():
    task = Task(
        name="t",
        title="T",
        kind="classification",
        labels=("a", "b"),
        scores=("f1", "accuracy"),
        dev=("one", "two"),
    )
    values = [(0.1, 0.9), (0.3, 0.2), (0.2, 0.4)]
    scores = [
        {"one": {"f1": one, "accuracy": 0.5}, "two": {"f1": two, "accuracy": 0.6}}
        for one, two in values
    ]
    evaluation = TaskEvaluation(task, [0.1, 0.2, 0.6], scores, [None] * 3)
    assert evaluation.entry() == {
        "loss_nats": pytest.approx(0.3),
        "one_f1": statistics.median([0.1, 0.3, 0.2]),
        "one_accuracy": 0.5,
        "two_f1": 0.4,
        "two_accuracy": 0.6,
        "seeds": scores,
    }
    assert evaluation.text() == (
        "one F1 20.0 (median of 3 seeds, 10.0 to 30.0), two F1 40.0 (20.0 to 90.0), loss 0.3000"
    )
    alone = TaskEvaluation(task, [0.1], scores[:1], [None])
    assert alone.text() == "one F1 10.0, two F1 90.0, loss 0.1000"


# ---- Seeds that diverged ------------------------------------------------------------------------

EXAMPLES = {
    "classification": [TextExample(str(n), ("red",), n % 3) for n in range(6)],
    "regression": [TextExample(str(n), ("red",), float(n)) for n in range(6)],
    "choice": [ChoiceExample(str(n), "p", tuple("abcd"), n % 4, "high") for n in range(6)],
    "span": [
        QuestionExample("0", "Who?", "red blue", (Answer("red", 0),)),
        QuestionExample("1", "Who?", "red blue", ()),
    ],
    "tokens": [WordsExample(str(n), ("red", "blue"), (0, n % 2)) for n in range(6)],
}


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_seed_whose_outputs_are_not_finite_has_scores_of_0(kind, wrong):
    names = tuple(name for name in SCORES[kind] if (kind, name) != ("classification", "f1"))
    task, examples = dataclasses.replace(TASKS[kind], scores=names), EXAMPLES[kind]
    rows = make_rows(task, examples, foreign.byte_bpe(), max_length=200)
    lengths = [len(row) for row in rows.ids]
    source = tiny.generator(4)

    def outputs():
        if kind in ("span", "tokens"):
            values = [source.standard_normal((length, 2), np.float32) for length in lengths]
            return Outputs(values, source.standard_normal(len(lengths), np.float32))
        shape = {"classification": (6, 3), "regression": (6,), "choice": (6, 4)}[kind]
        return Outputs(source.standard_normal(shape, np.float32))

    good, diverged = outputs(), outputs()
    diverged.values[0] = np.full_like(diverged.values[0], wrong)
    split = SplitRows("dev", examples, rows)
    evaluation, predictions = evaluate_seeds(
        task, [split], None, lambda *_: ([good, diverged], [0.5, math.nan])
    )
    alone, _ = evaluate_seeds(task, [split], None, lambda *_: ([good], [0.5]))
    assert evaluation.scores[0] == alone.scores[0] and evaluation.loss_nats == 0.5
    # The same names: a group without examples has none.
    assert evaluation.scores[1] == {"dev": dict.fromkeys(alone.scores[0]["dev"], 0.0)}
    assert len(predictions[0][1].values) == len(examples)
    thresholds = [value for value in evaluation.thresholds if value is not None]
    assert np.isfinite(thresholds).all()


def test_what_was_left_out_stands_in_the_record():
    scores = [{"dev": {"accuracy": 0.5}}] * 2
    evaluation = TaskEvaluation(
        TASKS["classification"], [math.nan, 0.3], scores, [None] * 2, left_out=[4, 0]
    )
    assert evaluation.loss_nats == 0.3 and evaluation.entry()["updates_left_out"] == [4, 0]
    assert "updates_left_out" not in dataclasses.replace(evaluation, left_out=[0, 0]).entry()
    assert math.isnan(dataclasses.replace(evaluation, losses=[math.nan, math.inf]).loss_nats)
