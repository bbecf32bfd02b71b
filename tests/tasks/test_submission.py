"""The files that are submitted, to the byte."""

import csv
import json

import numpy as np
import pytest

from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import GLUE, TASKS
from roberta_jax.tasks.examples import (
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.submission import glue_file_name, write_predictions, write_table
from roberta_jax.tasks.task import Task


def texts(*ids):
    return [TextExample(id=name, texts=("t",), label=None) for name in ids]


def write_one(folder, task, predictions, examples, split="test"):
    (path,) = write_predictions(folder, task, split, examples, predictions)
    return path


def test_the_names_that_glue_expects():
    names = [glue_file_name(task, split) for task in GLUE for split in task.test]
    assert names == [
        "CoLA.tsv",
        "SST-2.tsv",
        "MRPC.tsv",
        "STS-B.tsv",
        "QQP.tsv",
        "MNLI-m.tsv",
        "MNLI-mm.tsv",
        "AX.tsv",
        "QNLI.tsv",
        "RTE.tsv",
        "WNLI.tsv",
    ]
    assert glue_file_name(TASKS["sst2"], "dev") == "SST-2-dev.tsv"
    assert glue_file_name(TASKS["mnli"], "dev_mismatched") == "MNLI-mm-dev.tsv"


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("cola", ["1", "0"]),
        ("rte", ["entailment", "not_entailment"]),
        ("mnli", ["neutral", "contradiction"]),
    ],
)
def test_glue_has_the_number_of_the_row_and_the_label(tmp_path, name, cells):
    task, found = TASKS[name], Predictions(np.array([1, 0]))
    path = write_one(tmp_path / "new", task, found, texts("7", "3"), split=task.test[0])
    expected = f"index\tprediction\n7\t{cells[0]}\n3\t{cells[1]}\n"
    assert path.read_bytes() == expected.encode()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_similarity_is_clipped_to_its_range(tmp_path):
    predictions = Predictions(np.array([-0.2, 5.01, 3.14159]))
    path = write_one(tmp_path, TASKS["stsb"], predictions, texts("0", "1", "2"))
    assert path.read_text() == "index\tprediction\n0\t0.000\n1\t5.000\n2\t3.142\n"


def questions(*ids):
    return [QuestionExample(id=name, question="", passage="", answers=()) for name in ids]


def test_squad_leaves_questions_above_the_threshold_unanswered(tmp_path):
    predictions = Predictions(values=["caf\u00e9", "x", "y"], no_answer=np.array([1.0, 1.5, -1e30]))
    answers, chances = write_predictions(
        tmp_path,
        TASKS["squad2"],
        "test",
        questions("a", "b", "c"),
        predictions,
        no_answer_threshold=1.0,
    )
    assert answers.name == "squad2-test.json" and chances.name == "squad2-test-na_prob.json"
    assert json.loads(answers.read_text()) == {"a": "caf\u00e9", "b": "", "c": "y"}
    assert json.loads(chances.read_text()) == pytest.approx(
        {"a": 1 / (1 + np.exp(-1)), "b": 1 / (1 + np.exp(-1.5)), "c": 0}
    )


def test_squad_2_needs_a_threshold_and_1_has_none(tmp_path):
    predictions = Predictions(values=["x"], no_answer=np.array([1.0]))
    with pytest.raises(UserError, match="threshold"):
        write_one(tmp_path, TASKS["squad2"], predictions, questions("a"))
    path = write_one(tmp_path, TASKS["squad1"], Predictions(["x"]), questions("a"))
    assert json.loads(path.read_text()) == {"a": "x"}


def test_race_names_options_by_letters(tmp_path):
    examples = [
        ChoiceExample(id=f"high1.txt/{number}", passage="", options=("a", "b"), label=None)
        for number in range(2)
    ]
    path = write_one(tmp_path, TASKS["race"], Predictions(np.array([3, 0])), examples)
    assert json.loads(path.read_text()) == {"high1.txt/0": "D", "high1.txt/1": "A"}


MINE = Task(name="mine", title="Mine", kind="classification", labels=("a\tb", "\u00e9"))
CLASSES = Predictions(np.array([1, 0]), probabilities=np.array([[0.25, 0.75], [0.5, 0.5]]))


def test_a_users_classes_as_json_lines(tmp_path):
    path = write_one(tmp_path, MINE, CLASSES, texts("7", "x"))
    assert path.name == "mine-test.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {
        "id": "7",
        "label": "\u00e9",
        "probability": 0.75,
        "probabilities": {"a\tb": 0.25, "\u00e9": 0.75},
    }
    assert second["label"] == "a\tb"


def test_a_users_classes_as_a_table_survive_tabs(tmp_path):
    path = write_table(tmp_path / "out.tsv", MINE, texts("7", "x"), CLASSES)
    with path.open() as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows == [["id", "label", "probability"], ["7", "\u00e9", "0.75"], ["x", "a\tb", "0.5"]]


def test_a_users_numbers_and_words(tmp_path):
    numbers = Task(name="n", title="N", kind="regression")
    path = write_table(tmp_path / "n.tsv", numbers, texts("0"), Predictions(np.array([1.5])))
    assert path.read_text() == "id\tvalue\n0\t1.5\n"
    words = Task(name="w", title="W", kind="tokens", labels=("O", "X"))
    examples = [WordsExample(id="0", words=("u", "v"), labels=None)]
    predictions = Predictions([np.array([1, 0])])
    path = write_table(tmp_path / "w.tsv", words, examples, predictions)
    assert path.read_text() == "id\tlabels\n0\tX O\n"
    path = write_table(tmp_path / "w.jsonl", words, examples, predictions)
    assert json.loads(path.read_text()) == {"id": "0", "words": ["u", "v"], "labels": ["X", "O"]}


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.jsonl or \.tsv"):
        write_table(tmp_path / "out.csv", MINE, texts("7", "x"), CLASSES)


def test_as_many_predictions_as_examples_or_no_file(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_one(tmp_path, MINE, CLASSES, texts("7"))
    assert list(tmp_path.iterdir()) == []
