"""A model of one of transformers' classes for tasks → task, limits and weights, as of our own.

An export notes beside it what those classes have no place for, so that it reads back the same.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.errors import UserError
from roberta_jax.finetune.model_folder import RowLimits, TaskModelFolder, task_from
from roberta_jax.interop.huggingface import ForeignTaskModel, read_huggingface_task
from roberta_jax.interop.transformers_config import unnamed_labels
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.task import Task

NOTES_FILE = "roberta_jax_task.json"
_FORMAT = 1


def read_foreign_task_model(folder: pathlib.Path, mesh: Mesh, task: str = "") -> TaskModelFolder:
    """Reads a folder of transformers.

    Args:
      folder: of a model of one of transformers' classes for tasks.
      mesh: the weights are whole on every device of it.
      task: the published task that it is a model of; "" where that is not known, or noted.

    Raises:
      UserError: it is no such model, incomplete, damaged, not supported, or of another task.
    """
    whole = NamedSharding(mesh, P())

    def put(path: str, array: np.ndarray) -> Any:
        return jax.device_put(array, whole)

    foreign = read_huggingface_task(folder, put=put)
    noted = _read_notes(folder)
    found, limits, columns = noted or (
        _task_of(folder, foreign),
        RowLimits.of_encoder(foreign.config),
        {},
    )
    _check_kind(folder, foreign, found)
    found = dataclasses.replace(found, labels=foreign.labels if found.labels else ())
    if task and task != found.name:
        found = _as_published(folder, found, task)
    return TaskModelFolder(
        task=found,
        encoder=foreign.config,
        params=foreign.params,
        tokenizer=foreign.tokenizer,
        limits=limits,
        family=foreign.family,
        no_answer_threshold=None,
        scores={},
        columns=columns,
    )


def write_notes(folder: pathlib.Path, model: TaskModelFolder) -> None:
    """Writes what `read_foreign_task_model` cannot find in transformers' own files.

    The numbers of an exported regression are in the labels' unit, and there is no classifier for
    unanswerable questions.
    """
    task = dataclasses.replace(model.task, scale=1.0, shift=0.0, unanswerable=False)
    values = {
        "format": _FORMAT,
        "task": dataclasses.asdict(task),
        "limits": dataclasses.asdict(model.limits),
        "columns": model.columns,
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / NOTES_FILE).write_text(text, encoding="utf-8")


def _read_notes(folder: pathlib.Path) -> tuple[Task, RowLimits, dict[str, str]] | None:
    path = folder / NOTES_FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ValueError(f"its format is {values['format']}, not {_FORMAT}")
        return task_from(values["task"]), RowLimits(**values["limits"]), dict(values["columns"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error!r}). Export the model again; or remove the file, and "
            "the model is read as one that another system made."
        ) from error


def _task_of(folder: pathlib.Path, foreign: ForeignTaskModel) -> Task:
    """What its class and its labels say."""
    kind = foreign.head.task
    if kind in ("span", "choice"):
        task = find_task({"span": "squad1", "choice": "race"}[kind])
        return dataclasses.replace(task, title=folder.resolve().name)
    is_regression = kind == "classification" and len(foreign.labels) == 1
    return Task(
        name="table",
        title=folder.resolve().name,
        kind="regression" if is_regression else kind,
        labels=() if is_regression else foreign.labels,
    )


def _check_kind(folder: pathlib.Path, foreign: ForeignTaskModel, task: Task) -> None:
    head = "classification" if task.kind == "regression" else task.kind
    if (head, task.num_outputs) != (foreign.head.task, foreign.head.num_outputs):
        raise UserError(
            f"{folder / NOTES_FILE} tells of a task of the kind {task.kind} with "
            f"{task.num_outputs} outputs, and the model has a head for {foreign.head.task} with "
            f"{foreign.head.num_outputs}. They do not belong together: remove the file."
        )


def _as_published(folder: pathlib.Path, found: Task, name: str) -> Task:
    """The published task, with the classes in the order of the model's."""
    task = find_task(name)
    labels = found.labels
    by_name = {label.lower(): label for label in task.labels}
    if task.kind != found.kind or len(labels) != len(task.labels):
        raise UserError(
            f"The model in {folder} cannot be one of {task.title}: it is for {found.kind}"
            + (f" with the classes {', '.join(labels)}" if labels else "")
            + f", and {task.title} is {task.kind}"
            + (f" with {', '.join(task.labels)}." if task.labels else ".")
        )
    if set(by_name) == {label.lower() for label in labels}:
        labels = tuple(by_name[label.lower()] for label in labels)
    elif labels == unnamed_labels(len(labels)) and all(each.isdigit() for each in task.labels):
        labels = task.labels
    else:
        # Which one is which must not be guessed: the orders in use differ.
        raise UserError(
            f"The classes of the model in {folder} are called {', '.join(labels)}, and those of "
            f"{task.title} {', '.join(task.labels)}. Write the names of the task into id2label and "
            "label2id of its config.json, in the order of the model's outputs."
        )
    return dataclasses.replace(task, labels=labels, scale=1.0, shift=0.0, unanswerable=False)
