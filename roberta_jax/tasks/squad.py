"""SQuAD 1.1 and 2.0, as its own JSON or TFDS's dataset `squad` have them.

Offsets of answers are in characters (code points) of the passage.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from roberta_jax.data.compression import SUFFIXES
from roberta_jax.data.inputs import path_of
from roberta_jax.data.json_file import read_json
from roberta_jax.data.tables import read_table
from roberta_jax.data.tfds_source import is_tfds, splits_of
from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import TRAIN, Answer, Choose, QuestionExample, Splits
from roberta_jax.tasks.task import Task
from roberta_jax.wording import count_of

_SHOWN_IDS = 5  # Of questions that were left out, in a note.
_TFDS_SPLITS = {"dev": "validation"}


def load_squad(
    task: Task, data: str, *, for_training: bool = True, choose: Choose | None = None
) -> Splits:
    """The splits of SQuAD.

    An answer that is not at its offset is left out of train, and with it a question that has no
    other; of the other splits it stays, since answers are judged by their text. What was left out
    is in the notes. Of SQuAD 1.1, questions without an answer are left out of train and dev.

    Args:
      task: one of `catalogue.SQUAD`.
      data: the folder with train.json, dev.json and test.json, or with train-v1.1.json and so on
        (of SQuAD 2.0, -v2.0), each perhaps compressed; or `tfds:squad`, `tfds:squad/v2.0`,
        `tfds:FOLDER`; where not for training, a file too, which is taken for dev.
      for_training: train and dev must be there; otherwise any split will do.
      choose: which splits are read; None for all that are there.

    Raises:
      UserError: a split is missing, or a file is no JSON as SQuAD's.
    """
    notes: list[str] = []
    splits = {}
    places = _places(task, data, for_training)
    for split in choose(list(places)) if choose else places:
        path = places[split]
        checked = _Checked(task, split, path)
        splits[split] = [
            example for question in _questions(path) for example in checked.examples(question)
        ]
        notes += checked.notes()
        if not splits[split]:
            raise UserError(f"{path} has no question that can be used. {' '.join(notes)}".strip())
    return Splits(splits, tuple(notes))


def _places(task: Task, data: str, for_training: bool) -> dict[str, str]:
    names = (TRAIN, *task.dev, *task.test)
    version = "2.0" if task.unanswerable else "1.1"
    if is_tfds(data):
        dataset = f"{data}/v{version}" if data == "tfds:squad" else data
        known = splits_of(dataset)
        found = {
            name: f"{dataset}:{stored}"
            for name in names
            if (stored := _TFDS_SPLITS.get(name, name)) in known
        }
        files = ", ".join(names)
    else:
        folder = path_of(data)
        if not for_training and folder.is_file():
            return {task.dev[0]: data}
        if not folder.is_dir():
            raise UserError(
                f"The data of {task.title} is {data}, which is no folder. Give the folder with "
                f"train.json and dev.json, or train-v{version}.json and dev-v{version}.json."
            )
        found = {
            name: str(path) for name in names if (path := _file(folder, name, version)) is not None
        }
        files = ", ".join(f"{name}.json or {name}-v{version}.json" for name in names)
    needed = (TRAIN, *task.dev) if for_training else ()
    missing = [name for name in needed if name not in found]
    if missing or not found:
        raise UserError(
            f"{data} has no {' and no '.join(missing or names)} of {task.title}; the splits are "
            f"{files}{', of which the last may be missing' if needed else ''}."
        )
    return found


def _file(folder: Any, name: str, version: str) -> Any:
    paths = [
        folder / f"{name}{middle}.json{ending}"
        for middle in ("", f"-v{version}")
        for ending in ("", *SUFFIXES)
    ]
    return next((path for path in paths if path.exists()), None)


def _questions(path: str) -> Iterator[QuestionExample]:
    """The questions with all answers that the file has."""
    if is_tfds(path):
        table = read_table(path)
        table.check(("id", "question", "context", "answers"), "TFDS's squad has them.")
        for _, record in table.rows:
            answers = record["answers"]
            yield QuestionExample(
                record["id"],
                record["question"],
                record["context"],
                tuple(map(Answer, answers["text"], answers["answer_start"])),
                record.get("title", ""),
            )
        return
    content = read_json(path)
    place = "the file"
    try:
        for article in content["data"]:
            place = f"the article {article.get('title', '')!r}"
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    place = f"the question {question['id']!r}"
                    yield _question(article, paragraph, question)
    except (AttributeError, KeyError, TypeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else "is not as there"
        raise UserError(
            f"{path} is not laid out as SQuAD's JSON: {place} {what}. It must be "
            '{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": '
            '[{"text", "answer_start"}]}]}]}]}.'
        ) from error


def _question(
    article: dict[str, Any], paragraph: dict[str, Any], question: dict[str, Any]
) -> QuestionExample:
    # Whether it can be answered is told by these alone, as in SQuAD's own script.
    stored = question.get("answers") or []
    return QuestionExample(
        str(question["id"]),
        _text(question["question"]),
        _text(paragraph["context"]),
        tuple(Answer(_text(answer["text"]), int(answer["answer_start"])) for answer in stored),
        str(article.get("title", "")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


class _Checked:
    """Leaves out what cannot be learned from, and keeps count of it."""

    def __init__(self, task: Task, split: str, path: str):
        self._task, self._split, self._path = task, split, path
        self._misplaced: list[str] = []  # A question for each answer.
        self._without_place: list[str] = []
        self._unanswerable: list[str] = []

    def examples(self, question: QuestionExample) -> Iterator[QuestionExample]:
        """The question, with what is left of its answers, or nothing."""
        if not question.answers:
            if self._task.unanswerable or self._split in self._task.test:
                yield question
            else:
                self._unanswerable.append(question.id)
            return
        is_train = self._split == TRAIN
        answers = []
        for answer in question.answers:
            if _is_in_place(answer, question.passage):
                answers.append(answer)
            else:
                self._misplaced.append(question.id)
                if not is_train:
                    answers.append(dataclasses.replace(answer, start=-1))
        if answers:
            yield dataclasses.replace(question, answers=tuple(answers))
        else:
            self._without_place.append(question.id)

    def notes(self) -> list[str]:
        """A sentence each."""
        done = "left out of training" if self._split == TRAIN else "judged by text all the same"
        told = [
            (
                self._misplaced,
                ("answer is not at its offset", "answers are not at their offset"),
                f" in the passage; {done}",
            ),
            (
                self._without_place,
                (
                    "question was left out because none of its",
                    "questions were left out because none of their",
                ),
                " answers is at its offset",
            ),
            (
                self._unanswerable,
                (
                    "question without an answer was left out",
                    "questions without an answer were left out",
                ),
                f"; {self._task.title} has none such",
            ),
        ]
        return [
            f"{self._path}: {count_of(len(ids), *what)}{more} ({_first(ids)})."
            for ids, what, more in told
            if ids
        ]


def _is_in_place(answer: Answer, passage: str) -> bool:
    end = answer.start + len(answer.text)
    is_inside = answer.start >= 0 and passage[answer.start : end] == answer.text
    return is_inside and bool(answer.text.strip())


def _first(ids: list[str]) -> str:
    different = list(dict.fromkeys(ids))
    return ", ".join(different[:_SHOWN_IDS]) + (", …" if len(different) > _SHOWN_IDS else "")
