"""The files of any published task → its splits."""

import contextlib

from roberta_jax.data.inputs import path_of
from roberta_jax.data.tfds_source import is_tfds, splits_of
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import GLUE, RACE, SQUAD
from roberta_jax.tasks.examples import Choose, Splits
from roberta_jax.tasks.glue import load_glue
from roberta_jax.tasks.race import load_race
from roberta_jax.tasks.squad import load_squad
from roberta_jax.tasks.task import Task

_LOADERS = {
    **{task.name: load_glue for task in GLUE},
    **{task.name: load_squad for task in SQUAD},
    **{task.name: load_race for task in RACE},
}


def load_splits(
    task: Task, data: str, *, for_training: bool = True, choose: Choose | None = None
) -> Splits:
    """The splits of a task of the catalogue.

    Args:
      task: a published one; `user_table` reads the user's own.
      data: folder or TFDS dataset, as the loader of the task takes it.
      for_training: train and dev must be there; otherwise any split will do.
      choose: which splits are read; None for all that are there.

    Raises:
      UserError: a split is missing, or a file is not as published. The message names file and row.
    """
    if task.name not in _LOADERS:
        raise UserError(
            f"{task.name!r} is no published task; of a table of your own, name the file and the "
            "columns."
        )
    return _LOADERS[task.name](task, data, for_training=for_training, choose=choose)


def glue_tasks_in(data: str) -> list[Task]:
    """The tasks of GLUE that a folder of their folders has, or `tfds:glue`."""
    if not is_tfds(data):
        return [task for task in GLUE if (path_of(data) / task.title).is_dir()]
    found = []
    for task in GLUE:
        with contextlib.suppress(UserError):  # One that was not prepared.
            splits_of(f"{data}/{task.name}")
            found.append(task)
    return found
