"""The nine tasks of GLUE, as its own files or TFDS's dataset `glue` have them.

In GLUE's files a tab ends a field and quotes are text. All have a header but for CoLA's train.tsv
and dev.tsv. The labels are read by name: TFDS numbers the classes of some tasks in another order.
Texts lose the blanks at their ends, as in fairseq: SST-2 has one at the end of every sentence but
those of test.tsv. TFDS stores its records in an order of its own, with the number that the row has
in GLUE's file; here they stand in the order of that file. The diagnostic set is a test split of
MNLI, whose model predicts it for the server.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from roberta_jax.data.compression import SUFFIXES
from roberta_jax.data.inputs import path_of
from roberta_jax.data.tables import Record, Table, read_table
from roberta_jax.data.tfds_source import is_tfds, splits_of
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import DIAGNOSTIC
from roberta_jax.tasks.examples import TRAIN, Choose, Splits, TextExample
from roberta_jax.tasks.task import Task
from roberta_jax.wording import count_of

_SHOWN_LINES = 5  # Of those that were left out, in a note.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How the files of a task are made up.

    Attributes:
      texts: columns of the texts.
      label: column of the label.
      no_header: the columns of train.tsv and dev.tsv where these have no header.
      tfds_texts: TFDS's features of the texts.
      tfds_labels: TFDS's name of a class → GLUE's, where they differ.
      left_out: a label that marks a row without one.
      has_ragged_rows: whether the published files have rows that are broken.
    """

    texts: tuple[str, ...]
    label: str = "label"
    no_header: tuple[str, ...] = ()
    tfds_texts: tuple[str, ...] = ()
    tfds_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_out: str = ""
    has_ragged_rows: bool = False


_SENTENCES = ("sentence1", "sentence2")
_QUESTIONS = ("question1", "question2")
_LAYOUTS = {
    "cola": _Layout(
        texts=("sentence",),
        no_header=("source", "label", "mark", "sentence"),
        tfds_labels={"unacceptable": "0", "acceptable": "1"},
    ),
    "sst2": _Layout(texts=("sentence",), tfds_labels={"negative": "0", "positive": "1"}),
    "mrpc": _Layout(
        texts=("#1 String", "#2 String"),
        label="Quality",
        tfds_texts=_SENTENCES,
        tfds_labels={"not_equivalent": "0", "equivalent": "1"},
    ),
    "stsb": _Layout(texts=_SENTENCES, label="score"),
    "qqp": _Layout(
        texts=_QUESTIONS,
        label="is_duplicate",
        tfds_labels={"not_duplicate": "0", "duplicate": "1"},
        has_ragged_rows=True,
    ),
    "mnli": _Layout(
        texts=_SENTENCES, label="gold_label", tfds_texts=("premise", "hypothesis"), left_out="-"
    ),
    "qnli": _Layout(texts=("question", "sentence")),
    "rte": _Layout(texts=_SENTENCES),
    "wnli": _Layout(texts=_SENTENCES, tfds_labels={"not_entailment": "0", "entailment": "1"}),
}
_TFDS_NUMBER = "idx"
# Columns with the number of the row, by which GLUE submits.
_NUMBERS = ("index", "id", _TFDS_NUMBER)
# The diagnostic set beside the folder of MNLI, as the scripts that download GLUE leave it.
_DIAGNOSTIC_FILES = ("diagnostic/diagnostic", "AX/AX", "AX/test")
_DIAGNOSTIC_OF_TFDS = "tfds:glue/ax"


def num_texts(task: Task) -> int:
    """Texts of an example of a task of GLUE: 1 or 2."""
    return len(_LAYOUTS[task.name].texts)


def load_glue(
    task: Task, data: str, *, for_training: bool = True, choose: Choose | None = None
) -> Splits:
    """The splits of a task of GLUE.

    Args:
      task: one of `catalogue.GLUE`.
      data: the folder with train.tsv, dev.tsv and test.tsv (MNLI: dev_matched.tsv and so on), each
        perhaps compressed; or the folder in which that one has the task's title as its name; or
        `tfds:glue`, `tfds:glue/CONFIG`, `tfds:FOLDER`. The diagnostic set is diagnostic.tsv in the
        folder diagnostic beside MNLI's (or AX/AX.tsv, AX/test.tsv), or `tfds:glue/ax`.
      for_training: train and dev must be there; otherwise any split will do.
      choose: which splits are read; None for all that are there.

    Raises:
      UserError: a split is missing, or a file is not as GLUE's, damaged, or has a label that the
        task has not. The message names file and line.
    """
    layout = _LAYOUTS[task.name]
    notes: list[str] = []
    splits = {}
    for split, table in _tables(task, layout, data, for_training, choose):
        ragged: list[int] = []
        opened = table(ragged if layout.has_ragged_rows and split not in task.test else None)
        splits[split] = _examples(task, layout, opened, split in task.test, notes)
        if ragged:
            notes.append(
                _left_out(
                    opened.name,
                    [f"line {number}" for number in ragged],
                    ("broken row was", "broken rows were"),
                )
            )
        if not splits[split]:
            raise UserError(f"{opened.name} has no rows.")
    return Splits(splits, tuple(notes))


_Opener = Callable[[list[int] | None], Table]


def _tables(
    task: Task, layout: _Layout, data: str, for_training: bool, choose: Choose | None
) -> Iterator[tuple[str, _Opener]]:
    """The splits that are there and chosen, each with what opens its table."""
    names = (TRAIN, *task.dev, *task.test)
    if is_tfds(data):
        dataset = f"{data}/{task.name}" if data == "tfds:glue" else data
        known = splits_of(dataset)
        found = {
            name: f"{dataset}:{_tfds_split(name)}" for name in names if _tfds_split(name) in known
        }
        if DIAGNOSTIC in names and dataset == "tfds:glue/mnli":
            with contextlib.suppress(UserError):  # It was not prepared.
                splits_of(_DIAGNOSTIC_OF_TFDS)
                found[DIAGNOSTIC] = f"{_DIAGNOSTIC_OF_TFDS}:test"
        where = f"The TFDS dataset {dataset} has {', '.join(known)}, but"
    else:
        folder = _folder(task, data)
        found = {name: path for name in names if (path := _file(folder, name))}
        if DIAGNOSTIC in names and (path := _diagnostic_file(folder)):
            found[DIAGNOSTIC] = path
        where = f"The folder {folder} has"
    needed = (TRAIN, *task.dev) if for_training else ()
    missing = [name for name in needed if name not in found]
    if missing or not found:
        wanted = missing or [f"{name}.tsv" for name in names if name != DIAGNOSTIC]
        ending = "" if is_tfds(data) or not missing else ".tsv"
        raise UserError(
            f"{where} no {' and no '.join(f'{name}{ending}' for name in wanted)}; {task.title} "
            f"needs {' and '.join(needed or ('one of them',))}"
            f"{' to be trained and judged' if needed else ''}. {_described(task, layout)}"
        )
    for name in choose(list(found)) if choose else found:
        yield name, _opener(task, layout, name, found[name])


def _tfds_split(name: str) -> str:
    return name.replace("dev", "validation", 1)


def _folder(task: Task, data: str) -> Any:
    folder = path_of(data)
    if not folder.is_dir():
        raise UserError(
            f"The data of {task.title} is {data}, which is no folder. Give the folder with its "
            f"{TRAIN}.tsv, or the one that holds the folder {task.title}."
        )
    below = folder / task.title
    return below if below.is_dir() else folder


def _file(folder: Any, name: str) -> str | None:
    for ending in ("", *SUFFIXES):
        path = folder / f"{name}.tsv{ending}"
        if path.exists():
            return str(path)
    return None


def _diagnostic_file(folder: Any) -> str | None:
    """Beside the folder of MNLI; None where it is not there."""
    found = (_file(folder.resolve().parent, name) for name in _DIAGNOSTIC_FILES)
    return next((path for path in found if path), None)


def _opener(task: Task, layout: _Layout, split: str, path: str) -> _Opener:
    def opened(ragged: list[int] | None) -> Table:
        if is_tfds(path):
            table = read_table(path)
            columns = (*(layout.tfds_texts or layout.texts), _TFDS_NUMBER)
            table.check(columns, f"TFDS calls {task.title} so.")
            return table
        if layout.no_header and split not in task.test:
            return _without_header(task, layout, read_table(path, columns=layout.no_header))
        table = read_table(path, ragged=ragged)
        needed = layout.texts if split in task.test else (*layout.texts, layout.label)
        table.check(needed, _described(task, layout))
        return table

    return opened


def _without_header(task: Task, layout: _Layout, table: Table) -> Table:
    """The same table, whose first row was looked at."""
    try:
        first = next(table.rows, None)
    except UserError as error:  # Another number of fields.
        raise UserError(f"{error} {_described(task, layout)}") from error
    if first is None:
        raise UserError(f"{table.name} has no rows.")
    if first[1][layout.label] not in task.labels:
        raise UserError(
            f"{first[0]} is {' '.join(first[1].values())!r}, which is no row of {task.title}. "
            f"{_described(task, layout)}"
        )
    return dataclasses.replace(table, rows=itertools.chain([first], table.rows))


def _described(task: Task, layout: _Layout) -> str:
    columns = ", ".join((*layout.texts, layout.label))
    if not layout.no_header:
        return f"The files of {task.title} begin with a line that names their columns: {columns}."
    return (
        f"{TRAIN}.tsv and {task.dev[0]}.tsv of {task.title} have {len(layout.no_header)} columns, "
        f"{', '.join(layout.no_header)} (the label is {' or '.join(task.labels)}), and no line "
        f"that names them; {task.test[0]}.tsv begins with such a line: index, "
        f"{', '.join(layout.texts)}."
    )


def _examples(
    task: Task, layout: _Layout, table: Table, is_test: bool, notes: list[str]
) -> list[TextExample]:
    from_tfds = is_tfds(table.name)
    texts = layout.tfds_texts or layout.texts if from_tfds else layout.texts
    label = "label" if from_tfds else layout.label
    names = layout.tfds_labels if from_tfds else {}
    number = next((name for name in _NUMBERS if name in table.columns), None)
    examples: list[TextExample] = []
    without_label: list[str] = []
    for position, (place, record) in enumerate(table.rows):
        if not is_test and layout.left_out and record[label] in (layout.left_out, None):
            without_label.append(place.removeprefix(f"{table.name}, "))
            continue
        examples.append(
            TextExample(
                str(position if number is None else record[number]),
                tuple(record[name].strip() for name in texts),
                None if is_test else _label(task, names, place, record, label),
            )
        )
    if without_label:
        why = "without a label on which people agreed"
        notes.append(_left_out(table.name, without_label, (f"row {why} was", f"rows {why} were")))
    if from_tfds:
        examples.sort(key=lambda example: int(example.id))
    return examples


def _label(task: Task, names: Mapping[str, str], place: str, record: Record, column: str) -> float:
    """The number of the class, whose name in the file may be another than the task's."""
    value = record[column]
    if task.kind == "regression":
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= task.scale:
            raise UserError(
                f"{place} has {value!r} as its {column}; of {task.title} it must be a number from "
                f"0 to {task.scale:g}."
            )
        return number
    name = names.get(value, value)
    if name not in task.labels:
        raise UserError(
            f"{place} has {value!r} as its {column}; of {task.title} it must be one of "
            f"{', '.join(task.labels)}."
        )
    return task.labels.index(name)


def _left_out(name: str, places: Sequence[str], rows: tuple[str, str]) -> str:
    shown = ", ".join(places[:_SHOWN_LINES]) + (", …" if len(places) > _SHOWN_LINES else "")
    return f"{name}: {count_of(len(places), *rows)} left out ({shown})."
