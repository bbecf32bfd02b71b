"""Scores as published, and what they are where they are not defined."""

import dataclasses

import numpy as np
import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS
from roberta_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.scores import SCORES, confusion_matrix, score
from roberta_jax.tasks.task import KINDS, Task


def texts(*labels):
    return [
        TextExample(id=str(number), texts=("t",), label=one) for number, one in enumerate(labels)
    ]


def predict(*values, kind=np.int64):
    return Predictions(values=np.array(values, kind))


def judged_by(*scores, kind="classification", labels=("0", "1"), **fields):
    return Task(name="mine", title="Mine", kind=kind, labels=labels, scores=scores, **fields)


def test_every_kind_has_scores_and_every_published_task_names_some_of_them():
    assert set(SCORES) == set(KINDS)
    for task in TASKS.values():
        assert set(task.scores) <= set(SCORES[task.kind])


def test_the_two_class_scores_by_hand():
    # True positives 2, false positives 1, false negatives 1, true negatives 2.
    task = judged_by("accuracy", "f1", "macro_f1", "matthews")
    found = score(task, texts(1, 1, 1, 0, 0, 0), predict(1, 1, 0, 1, 0, 0))
    assert list(found) == ["accuracy", "f1", "macro_f1", "matthews"]
    assert found == pytest.approx(
        {"accuracy": 4 / 6, "f1": 2 / 3, "macro_f1": 2 / 3, "matthews": (2 * 2 - 1) / 9}
    )


def test_f1_is_that_of_class_one():
    found = score(TASKS["mrpc"], texts(1, 1, 0, 0, 0, 0), predict(1, 0, 0, 0, 0, 0))
    assert found == pytest.approx({"accuracy": 5 / 6, "f1": 2 / 3})


def test_macro_f1_is_over_the_classes_that_occur():
    task = judged_by("macro_f1", labels=("a", "b", "c", "d"))
    assert score(task, texts(0, 0, 2), predict(0, 1, 2))["macro_f1"] == pytest.approx(5 / 9)


def test_correlations_by_hand():
    found = score(TASKS["stsb"], texts(0.0, 1.0, 5.0), predict(1.0, 2.0, 2.5, kind=np.float64))
    expected = np.corrcoef([0, 1, 5], [1, 2, 2.5])[0, 1]
    assert found == pytest.approx({"pearson": expected, "spearman": 1.0})


@pytest.mark.parametrize("predicted", [(0, 0, 0), (1, 1, 1)])
def test_one_class_throughout_has_no_correlation(predicted):
    found = score(judged_by("matthews", "f1"), texts(0, 1, 0), predict(*predicted))
    assert found["matthews"] == 0
    assert found["f1"] == (0.5 if predicted[0] else 0)


def test_one_class_in_truth_and_predictions():
    found = score(judged_by("matthews", "f1", "macro_f1"), texts(0, 0), predict(0, 0))
    assert found == {"matthews": 0, "f1": 0, "macro_f1": 1}


@pytest.mark.parametrize("predicted", [(2.0, 2.0, 2.0), (np.nan, 1, 2), (np.inf, 1, 2)])
def test_constant_or_lost_predictions_correlate_with_nothing(predicted):
    found = score(TASKS["stsb"], texts(1.0, 2.0, 4.0), predict(*predicted, kind=np.float64))
    assert found == {"pearson": 0, "spearman": 0}


def test_nearly_constant_predictions_correlate_without_a_warning():
    predicted = predict(2.0, 2.0 + 1e-15, 2.0, kind=np.float64)
    found = score(TASKS["stsb"], texts(1.0, 2.0, 4.0), predicted)
    assert all(-1 <= value <= 1 for value in found.values())


def test_one_example_correlates_with_nothing():
    found = score(TASKS["stsb"], texts(1.0), predict(1.0, kind=np.float64))
    assert found == {"pearson": 0, "spearman": 0}


def choices(*groups):
    return [
        ChoiceExample(id=str(number), passage="", options=("a", "b"), label=0, group=group)
        for number, group in enumerate(groups)
    ]


def test_accuracy_by_group_of_race():
    examples = choices("middle", "high", "high", "high")
    found = score(TASKS["race"], examples, predict(0, 0, 1, 1))
    assert found == pytest.approx({"accuracy": 0.5, "middle_accuracy": 1, "high_accuracy": 1 / 3})
    assert list(score(TASKS["race"], choices("high"), predict(0))) == ["accuracy", "high_accuracy"]
    assert list(score(TASKS["race"], choices(""), predict(0))) == ["accuracy"]


def questions():
    answer = (Answer("the house", 0),)
    return [
        QuestionExample(id="1", question="", passage="", answers=answer),
        QuestionExample(id="2", question="", passage="", answers=()),
    ]


def test_f1_of_a_span_is_that_of_squad():
    examples = questions()[:1]
    found = score(TASKS["squad1"], examples, Predictions(values=["big house"]))
    assert found == pytest.approx({"f1": 2 / 3, "exact_match": 0})


def test_a_task_with_unanswerable_questions_uses_the_threshold_that_is_given():
    predictions = Predictions(values=["house", "sky"], no_answer=np.array([-1.0, 1.0]))
    task = dataclasses.replace(TASKS["squad2"], scores=SCORES["span"])
    assert set(score(task, questions(), predictions).values()) == {1.0}
    found = score(task, questions(), predictions, no_answer_threshold=2.0)
    assert found["f1"] == 0.5 and found["no_answer_accuracy"] == 0 and found["best_f1"] == 1


LABELS = ("O", "B-X", "I-X")


def test_scores_of_words():
    examples = [
        WordsExample(id="0", words=("a", "b", "c"), labels=(1, 2, 0)),
        WordsExample(id="1", words=("d",), labels=(1,)),
    ]
    predictions = Predictions(values=[np.array([1, 0, 0]), np.array([1])])
    task = judged_by(*SCORES["tokens"], kind="tokens", labels=LABELS)
    assert score(task, examples, predictions) == pytest.approx(
        {"entity_f1": 0.5, "entity_precision": 0.5, "entity_recall": 0.5, "token_accuracy": 0.75}
    )
    expected = [[1, 0, 0], [0, 2, 0], [1, 0, 0]]
    assert confusion_matrix(task, examples, predictions).tolist() == expected


def test_a_row_of_the_confusion_matrix_is_a_true_class():
    task = judged_by("accuracy", labels=("a", "b", "c"))
    found = confusion_matrix(task, texts(0, 0, 0, 1), predict(0, 2, 2, 0))
    assert found.dtype == np.int64
    assert found.tolist() == [[1, 0, 2], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (judged_by("accuracy", "bleu"), "'bleu'.*accuracy, f1, macro_f1, matthews"),
        (judged_by("accuracy", kind="regression", labels=()), "regression.*pearson, spearman"),
        (judged_by("f1", labels=("a", "b", "c")), "3.*macro_f1"),
        (judged_by("best_f1", kind="span", labels=()), "f1, exact_match"),
    ],
)
def test_a_score_that_the_kind_does_not_have_is_refused(task, words):
    with pytest.raises(UserError, match=words):
        score(task, texts(0, 1), predict(0, 1))


def test_what_has_no_labels_or_no_examples_is_not_scored():
    with pytest.raises(UserError, match="'1' of SST-2 has no label"):
        score(TASKS["sst2"], texts(0, None), predict(0, 1))
    with pytest.raises(UserError, match="no examples"):
        score(TASKS["sst2"], [], predict())
