"""Predictions → files: those that GLUE's and SQuAD's servers take, RACE's, and tables for a user.

Every file is written whole or not at all. Rows are in the order of the examples.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from etils import epath

from roberta_jax.errors import UserError
from roberta_jax.page.document import write_whole
from roberta_jax.tasks.catalogue import DIAGNOSTIC, GLUE
from roberta_jax.tasks.examples import Example, WordsExample
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.task import Task

_GLUE_NAMES = {task.name for task in GLUE}
_MNLI_PARTS = {"matched": "m", "mismatched": "mm"}
_STSB_RANGE = (0.0, 5.0)
TABLE_SUFFIXES = (".jsonl", ".tsv")

Path = str | os.PathLike[str]


def write_predictions(
    folder: Path,
    task: Task,
    split: str,
    examples: Sequence[Example],
    predictions: Predictions,
    *,
    no_answer_threshold: float | None = None,
) -> list[epath.Path]:
    """Writes the predictions of a split in the format of the task; returns the files.

    Args:
      folder: is made where it is not there.
      task: a published one, or a user's, whose predictions are JSON lines.
      split: a name of the task's test or dev splits.
      examples: of the split.
      predictions: of those examples.
      no_answer_threshold: of a task with unanswerable questions, the one chosen on the dev split.
    """
    if task.name in _GLUE_NAMES:
        return [write_glue(folder, task, split, examples, predictions)]
    if task.kind == "span":
        return write_squad(
            folder, task, split, examples, predictions, no_answer_threshold=no_answer_threshold
        )
    if task.kind == "choice":
        return [write_race(folder, task, split, examples, predictions)]
    path = epath.Path(folder) / f"{task.name}-{split}.jsonl"
    return [write_table(path, task, examples, predictions)]


def write_glue(
    folder: Path, task: Task, split: str, examples: Sequence[Example], predictions: Predictions
) -> epath.Path:
    """Writes the file of one test split under the name that GLUE's server expects.

    Two columns, `index` (the id of the example, which is the row's number in GLUE's file; the
    server goes by it, and not by the order of the lines) and `prediction`: the name of the label
    (MNLI, QNLI, RTE), 0 or 1, or for STS-B a number in [0, 5]. A dev split gets "-dev" behind the
    name.
    """
    if task.kind == "regression":
        values = np.clip(np.asarray(predictions.values, np.float64), *_STSB_RANGE)
        cells = [f"{value:.3f}" for value in values]
    else:
        cells = [task.labels[number] for number in np.asarray(predictions.values)]
    rows = zip(examples, cells, strict=True)
    lines = ["index\tprediction", *(f"{example.id}\t{cell}" for example, cell in rows)]
    return _write_text(epath.Path(folder) / glue_file_name(task, split), "\n".join(lines))


def glue_file_name(task: Task, split: str) -> str:
    """Such as "SST-2.tsv", "MNLI-mm.tsv"; of the diagnostic set "AX.tsv"."""
    if split == DIAGNOSTIC:
        return "AX.tsv"
    whole, _, part = split.partition("_")
    name = f"{task.title}-{_MNLI_PARTS.get(part, part)}" if part else task.title
    return f"{name}.tsv" if whole == "test" else f"{name}-{whole}.tsv"


def write_squad(
    folder: Path,
    task: Task,
    split: str,
    examples: Sequence[Example],
    predictions: Predictions,
    *,
    no_answer_threshold: float | None = None,
) -> list[epath.Path]:
    """Writes SQuAD's JSON, question id → text, and of 2.0 the file of no-answer probabilities.

    In 2.0 the text is "" where the score of no answer is above the threshold. The probabilities
    are the logistic function of those scores; the script sweeps over them with `--na-prob-file`.

    Raises:
      UserError: the task has unanswerable questions, and no threshold was given.
    """
    ids = [example.id for example in examples]
    answers = answers_given(predictions, no_answer_threshold)
    stem = epath.Path(folder) / f"{task.name}-{split}"
    if predictions.no_answer is None:
        return [
            _write_json(stem.with_name(f"{stem.name}.json"), dict(zip(ids, answers, strict=True)))
        ]
    # Beyond 700 the exponential is no longer a float64, and the probability is 0 or 1 long since.
    probabilities = 1 / (1 + np.exp(-np.clip(predictions.no_answer, -700, 700)))
    return [
        _write_json(stem.with_name(f"{stem.name}.json"), dict(zip(ids, answers, strict=True))),
        _write_json(
            stem.with_name(f"{stem.name}-na_prob.json"),
            dict(zip(ids, probabilities.tolist(), strict=True)),
        ),
    ]


def answers_given(predictions: Predictions, no_answer_threshold: float | None) -> list[str]:
    """The answers to questions, "" where the score of no answer is above the threshold.

    Raises:
      UserError: there are such scores, and no threshold.
    """
    texts = list(cast(Sequence[str], predictions.values))
    if predictions.no_answer is None:
        return texts
    if no_answer_threshold is None:
        raise UserError(
            "There are questions without an answer, and no threshold was given above which a "
            "question is left unanswered. Choose it on a dev split, or give it as a number."
        )
    unanswered = predictions.no_answer > no_answer_threshold
    return ["" if left else text for left, text in zip(unanswered, texts, strict=True)]


def write_race(
    folder: Path, task: Task, split: str, examples: Sequence[Example], predictions: Predictions
) -> epath.Path:
    """Writes JSON, question id → letter of the option, as RACE's own files name the answers."""
    letters = {
        example.id: chr(ord("A") + int(option))
        for example, option in zip(examples, predictions.values, strict=True)
    }
    return _write_json(epath.Path(folder) / f"{task.name}-{split}.json", letters)


def write_table(
    path: Path,
    task: Task,
    examples: Sequence[Example],
    predictions: Predictions,
    *,
    no_answer_threshold: float | None = None,
) -> epath.Path:
    """Writes a user's predictions: JSON lines, or a TSV with a header, by the suffix of the path.

    Columns: `id`, that of the example (`user_table.read_examples`); of classification `label` and
    `probability` (JSON lines also have `probabilities`, of every label); of regression `value`; of
    labelled words `labels` (a list, in a TSV with spaces between; JSON lines also have the
    `words`); of questions `answer`, as `answers_given` gives it.

    Raises:
      UserError: the path has another suffix, or the threshold is missing.
    """
    check_table_name(path)
    target = epath.Path(path)
    rows = _table_rows(task, examples, predictions, no_answer_threshold)
    if target.suffix == ".jsonl":
        return _write_text(target, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    columns = {
        "classification": ("id", "label", "probability"),
        "regression": ("id", "value"),
        "tokens": ("id", "labels"),
        "span": ("id", "answer"),
    }[task.kind]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row[column] for column in columns)
        writer.writerow([" ".join(cell) if isinstance(cell, list) else cell for cell in cells])
    return _write_text(target, text.getvalue().removesuffix("\n"))


def check_table_name(path: Path) -> None:
    """Raises UserError for a name by which `write_table` cannot tell the type of the file."""
    if epath.Path(path).suffix not in TABLE_SUFFIXES:
        raise UserError(
            f"Predictions cannot be written to {path}: its name must end in "
            f"{' or '.join(TABLE_SUFFIXES)}."
        )


def _table_rows(
    task: Task,
    examples: Sequence[Example],
    predictions: Predictions,
    no_answer_threshold: float | None,
) -> list[dict[str, Any]]:
    if task.kind == "span":
        answers = answers_given(predictions, no_answer_threshold)
        return [
            {"id": example.id, "answer": answer}
            for example, answer in zip(examples, answers, strict=True)
        ]
    rows: list[dict[str, Any]] = []
    for place, (example, value) in enumerate(zip(examples, predictions.values, strict=True)):
        row: dict[str, Any] = {"id": example.id}
        if task.kind == "regression":
            row["value"] = float(value)
        elif task.kind == "tokens":
            row["words"] = list(cast(WordsExample, example).words)
            row["labels"] = [task.labels[number] for number in value]
        else:
            assert predictions.probabilities is not None
            probabilities = predictions.probabilities[place].tolist()
            row["label"] = task.labels[int(value)]
            row["probability"] = probabilities[int(value)]
            row["probabilities"] = dict(zip(task.labels, probabilities, strict=True))
        rows.append(row)
    return rows


def _write_json(path: epath.Path, content: Any) -> epath.Path:
    return _write_text(path, json.dumps(content, ensure_ascii=False, indent=1))


def _write_text(path: epath.Path, text: str) -> epath.Path:
    return write_whole(path, f"{text}\n".encode())
