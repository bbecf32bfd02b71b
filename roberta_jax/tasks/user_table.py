"""A user's own table → a task and its splits.

One row is one example: a text or two with a class or a number, or words with a label each.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from roberta_jax.data.tables import Record, read_table
from roberta_jax.data.tfds_source import is_tfds
from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import TRAIN, Example, Splits, TextExample, WordsExample
from roberta_jax.tasks.task import Task
from roberta_jax.wording import count_of

KINDS = ("classification", "regression", "tokens")
DEV, TEST = "dev", "test"
_SHOWN_LABELS = 20
# A column that names the rows which are predicted.
_ID = "id"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of the table hold what.

    Attributes:
      text: the text; of tokens the words, as a list or as a string with blanks between them.
      second_text: of a pair, otherwise "".
      label: the class, the number, or the labels of the words, again as a list or a string.
    """

    text: str
    second_text: str = ""
    label: str


def load_table(
    kind: str,
    columns: Columns,
    *,
    train: str,
    dev: str = "",
    test: str = "",
    labels: Sequence[str] = (),
    dev_fraction: float = 0.0,
) -> tuple[Task, Splits]:
    """Reads the files of a task.

    Args:
      kind: one of KINDS.
      columns: of all files; those of test need no labels.
      train: a file that `read_table` reads.
      dev: likewise; "" for a share of train.
      test: likewise; "" for none.
      labels: the classes in their order; empty for those of train, sorted (numbers as numbers).
      dev_fraction: without dev, the share of train's rows that is set aside, always the same ones.

    Returns:
      The task, and its splits. A regression's numbers are shifted by the mean of train's and scaled
      by their standard deviation.

    Raises:
      UserError: a file cannot be read, columns are missing, a text is null or empty, a label is
        missing, no number, or not one of the classes, or there are not as many labels as words. The
        message names the row.
    """
    if kind not in KINDS:
        raise UserError(f"The kind of a table's task is {kind!r}; it must be {', '.join(KINDS)}.")
    if kind == "tokens" and columns.second_text:
        raise UserError("Words with a label each have one column of words, no second text.")
    if not dev and not 0 < dev_fraction < 1:
        raise UserError(
            f"There is no dev data and the share of train's rows to set aside is {dev_fraction}. A "
            "model is chosen and judged by dev data: give a file, or a share between 0 and 1."
        )
    if dev and dev_fraction:
        raise UserError("Give dev data or a share of train's rows to set aside, not both.")
    # Labels are checked against the classes when these are known.
    rows = _rows(kind, columns, train, has_labels=True)
    if len(rows) < 2:
        raise UserError(f"{train} has {count_of(len(rows), 'row')}; two are needed at least.")
    task = _task(kind, train, rows, labels, has_test=bool(test))
    splits: dict[str, Sequence[Example]] = {TRAIN: _examples(task, rows)}
    notes = []
    if dev:
        splits[DEV] = read_examples(task, columns, dev, has_labels=True)
    else:
        in_dev = _set_aside(len(rows), dev_fraction)
        whole = splits[TRAIN]
        splits[TRAIN] = [
            example for example, is_dev in zip(whole, in_dev, strict=True) if not is_dev
        ]
        splits[DEV] = [example for example, is_dev in zip(whole, in_dev, strict=True) if is_dev]
        notes.append(
            f"{train}: {len(splits[DEV]):,} of {len(whole):,} rows were set aside as dev data."
        )
    if kind == "regression":
        task = _scaled(task, splits[TRAIN])
    if test:
        splits[TEST] = read_examples(task, columns, test, has_labels=False)
    return task, Splits(splits, tuple(notes))


def read_examples(
    task: Task, columns: Columns, path: str, *, has_labels: bool
) -> Sequence[Example]:
    """The examples of a table of a task that is known, to judge it or to predict them.

    Without labels, their ids are the values of the column "id" where every row has a text or an
    integer there; otherwise, and with labels, they are the numbers of the rows, from 0.

    Raises:
      UserError: as `load_table`; also a label that is not among the task's, and an empty table.
    """
    rows = _rows(task.kind, columns, path, has_labels=has_labels)
    if not rows:
        raise UserError(f"{path} has no rows.")
    examples = _examples(task, rows)
    ids = [row.id for row in rows if row.id is not None]
    if has_labels or len(ids) < len(rows):
        return examples
    return [dataclasses.replace(each, id=name) for each, name in zip(examples, ids, strict=True)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """What a row of a table says.

    Attributes:
      place: the table and the row.
      texts: one, two, or the words.
      labels: one, or one for each word, or None.
      id: what stands in the column "id"; None for nothing, or nothing that is a name.
      empty_column: the first one whose text is empty or blank; "" for none.
    """

    place: str
    texts: tuple[str, ...]
    labels: tuple[str, ...] | tuple[float] | None
    id: str | None = None
    empty_column: str = ""


def _rows(kind: str, columns: Columns, path: str, *, has_labels: bool) -> list[_Row]:
    """The rows of a table, none of which has an empty text."""
    rows = list(_read_rows(kind, columns, path, has_labels=has_labels))
    # An empty text is a mistake in the file far more often than something to learn from.
    empty = [row for row in rows if row.empty_column]
    if empty:
        others = f" (likewise {len(empty) - 1:,} later rows)" if len(empty) > 1 else ""
        raise UserError(
            f"{empty[0].place} has an empty text in column {empty[0].empty_column!r}{others}. "
            "Fill it in, or leave the row out."
        )
    return rows


def _read_rows(kind: str, columns: Columns, path: str, *, has_labels: bool) -> Iterator[_Row]:
    table = read_table(path)
    texts = [columns.text, *([columns.second_text] if columns.second_text else [])]
    names = [*texts, *([columns.label] if has_labels else [])]
    flags = ["--text", *(["--text_pair"] if columns.second_text else [])]
    flags += ["--label"] if has_labels else []
    table.check(names, f"Name the column{'s' if len(names) > 1 else ''} by {' and '.join(flags)}.")
    for place, record in table.rows:
        values = [_value(place, record, name) for name in names]
        if kind == "tokens":
            words = _word_row(place, columns, values, has_labels)
            yield dataclasses.replace(words, id=_id(record))
            continue
        for name, value in zip(texts, values, strict=False):
            if not isinstance(value, str):
                raise UserError(
                    f"{place}: the column {name!r} holds a {type(value).__name__} ({value!r}); it "
                    "must hold a text."
                )
        labels: tuple[str] | tuple[float] | None = None
        if has_labels:
            read = _number if kind == "regression" else _label
            labels = (read(place, columns.label, values[-1]),)  # type: ignore[assignment]
        kept = tuple(values[: len(texts)])
        blank = (name for name, text in zip(texts, kept, strict=True) if not text.strip())
        yield _Row(place, kept, labels, _id(record), next(blank, ""))


def _id(record: Record) -> str | None:
    value = record.get(_ID)
    is_name = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return str(value) if is_name else None


def _value(place: str, record: Record, column: str) -> Any:
    value = record.get(column)
    if value is None:
        what = "has null in" if column in record else "has no"
        raise UserError(f"{place} {what} column {column!r}. Fill it in, or leave the row out.")
    return value


def _label(place: str, column: str, value: Any) -> str:
    """The name of a class, which other files may spell as a number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float) or value in ("", math.inf) or value != value:
        raise UserError(
            f"{place}: the column {column!r} holds {value!r}; it must hold the name of a class."
        )
    return str(value)


def _number(place: str, column: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{place}: the column {column!r} holds {value!r}; it must hold a number.")
    return number


def _word_row(place: str, columns: Columns, values: list[Any], has_labels: bool) -> _Row:
    words = _listed(place, columns.text, values[0], of_words=True)
    if bad := [word for word in words if not isinstance(word, str)]:
        raise UserError(f"{place}: the column {columns.text!r} holds {bad[0]!r} among its words.")
    if not any(word.strip() for word in words):
        raise UserError(f"{place} has no words in column {columns.text!r}; leave the row out.")
    if not has_labels:
        return _Row(place, tuple(words), None)
    labels = _listed(place, columns.label, values[-1], of_words=False)
    if len(labels) != len(words):
        raise UserError(
            f"{place} has {count_of(len(words), 'word')} in column {columns.text!r} and "
            f"{count_of(len(labels), 'label')} in column {columns.label!r}; every word must have "
            "one."
        )
    named = tuple(_label(place, columns.label, label) for label in labels)
    return _Row(place, tuple(words), named)


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, list) else None


def _listed(place: str, column: str, value: Any, *, of_words: bool) -> list[Any]:
    """A list, the JSON of one, or what stands between blanks."""
    if isinstance(value, str):
        # Words may look like a list: "[ 12 ]".
        parsed = _json_list(value)
        is_list = parsed and (all(isinstance(part, str) for part in parsed) or not of_words)
        return parsed if parsed and is_list else value.split()
    if not isinstance(value, list):
        raise UserError(
            f"{place}: the column {column!r} holds a {type(value).__name__}; it must hold a list, "
            "or a text with blanks between words."
        )
    return value


def _task(
    kind: str, train: str, rows: Sequence[_Row], labels: Sequence[str], *, has_test: bool
) -> Task:
    title = train if is_tfds(train) else pathlib.PurePath(train).name.split(".")[0]
    names: tuple[str, ...] = ()
    if kind == "regression":
        if labels:
            raise UserError(f"A regression has no classes; the labels {list(labels)} are given.")
    else:
        found = {label for row in rows for label in row.labels or ()}
        names = tuple(labels) or tuple(sorted(map(str, found), key=_sorting(found)))
        if len(set(names)) < len(names):
            raise UserError(f"The labels are {', '.join(names)}; each must be given once.")
        if len(names) < 2:
            raise UserError(
                f"The only label of {train} is {names[0]!r}; a model needs two different ones at "
                "least. See whether --label names the right column."
            )
    return Task(
        name="table", title=title, kind=kind, labels=names, test=(TEST,) if has_test else ()
    )


def _sorting(labels: set[Any]) -> Any:
    """By number where all are numbers, otherwise by text."""
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return str
    return lambda label: (numbers[label], label)


def _examples(task: Task, rows: Sequence[_Row]) -> list[Example]:
    number_of = {name: number for number, name in enumerate(task.labels)}
    examples: list[Example] = []
    for position, row in enumerate(rows):
        labels: tuple[Any, ...] | None = row.labels
        if labels is not None and task.kind != "regression":
            unknown = [label for label in labels if label not in number_of]
            if unknown:
                raise _unknown(task, row, unknown[0])
            labels = tuple(number_of[label] for label in labels)
        number = str(position)
        if task.kind == "tokens":
            examples.append(WordsExample(number, row.texts, labels))
        else:
            examples.append(TextExample(number, row.texts, labels[0] if labels else None))
    return examples


def _unknown(task: Task, row: _Row, label: str) -> UserError:
    shown = ", ".join(task.labels[:_SHOWN_LABELS])
    more = ", …" if len(task.labels) > _SHOWN_LABELS else ""
    return UserError(
        f"{row.place} has the label {label!r}, which is none of {task.title}'s: {shown}{more}. "
        "Correct the row, or leave it out."
    )


def _scaled(task: Task, examples: Sequence[Example]) -> Task:
    numbers = np.array([e.label for e in examples if isinstance(e, TextExample)], np.float64)
    return dataclasses.replace(task, shift=float(numbers.mean()), scale=float(numbers.std()) or 1.0)


def _set_aside(num_rows: int, fraction: float) -> list[bool]:
    """Which rows are dev data: those of the smallest hash, at least one and not all."""

    def hashed(number: int) -> bytes:
        return hashlib.sha256(str(number).encode()).digest()

    count = min(max(round(num_rows * fraction), 1), num_rows - 1)
    chosen = set(sorted(range(num_rows), key=hashed)[:count])
    return [number in chosen for number in range(num_rows)]
