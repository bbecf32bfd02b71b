"""Outputs of every kind → what is predicted."""

import numpy as np
import pytest

from roberta_jax.tasks.catalogue import TASKS
from roberta_jax.tasks.examples import QuestionExample
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.predictions import Outputs, decide
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.windows import Window


def make_rows(num_rows, **fields):
    ids = [np.zeros(4, np.int32)] * num_rows
    return TaskRows(ids=ids, second_starts=np.zeros(num_rows, np.int32), targets=None, **fields)


def test_the_class_with_the_greatest_logit_and_its_probability():
    values = np.array([[1, 3, 2], [5, 5, 0], [-1e4, 0, 1e4]], np.float32)
    found = decide(TASKS["mnli"], [], make_rows(3), Outputs(values))
    assert found.values.tolist() == [1, 0, 2] and found.values.dtype == np.int64
    assert found.probabilities.dtype == np.float64
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-15)
    assert found.probabilities[0] == pytest.approx(np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum())
    assert found.probabilities[2].tolist() == [0, 0, 1]


def test_options_of_a_question_compete_with_each_other():
    values = np.array([[0, 0, 1, 0], [9, 1, 1, 1]], np.float32)
    found = decide(TASKS["race"], [], make_rows(8, group_size=4), Outputs(values))
    assert found.values.tolist() == [2, 0]
    assert found.probabilities.shape == (2, 4)


def test_numbers_are_in_the_unit_of_the_labels():
    task = Task(name="n", title="N", kind="regression", scale=4.0, shift=10.0)
    found = decide(task, [], make_rows(2), Outputs(np.array([0.5, -0.1], np.float32)))
    assert found.values.dtype == np.float64 and found.probabilities is None
    assert found.values == pytest.approx([12, 9.6], rel=1e-7)


def test_a_word_has_the_class_of_its_first_token_and_one_that_was_cut_the_most_frequent():
    task = Task(name="n", title="N", kind="tokens", labels=("a", "b", "c"))
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]]  # Of `<s>`, three tokens, `</s>`.
    places = [np.array([1, 3]), np.array([1, 2, 3, -1]), np.array([-1, -1])]
    found = decide(task, [], make_rows(3, word_places=places), Outputs([logits] * 3))
    assert [one.tolist() for one in found.values] == [[1, 2], [1, 2, 2, 2], [0, 0]]
    assert {one.dtype for one in found.values} == {np.dtype(np.int64)}


def test_answers_and_their_no_answer_score_where_the_task_has_one():
    offsets = np.array([[-1, -1], [0, 3], [4, 7], [-1, -1]], np.int32)
    rows = make_rows(1, windows=[Window(example=0, offsets=offsets, best=offsets[:, 0] >= 0)])
    values = [np.array([[1, 1], [0, 0], [2, 3], [9, 9]], np.float32)]
    question = QuestionExample(id="q", question="?", passage="one two", answers=())
    found = decide(TASKS["squad2"], [question], rows, Outputs(values))
    assert found.values == ["two"] and found.no_answer.tolist() == [2 - 5]
    assert decide(TASKS["squad1"], [question], rows, Outputs(values)).no_answer is None
    found = decide(TASKS["squad2"], [question], rows, Outputs(values, np.array([0.5])))
    assert found.no_answer.tolist() == [-0.5]
