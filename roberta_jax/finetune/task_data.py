"""The task of a config, and the examples of its files."""

from roberta_jax.config import FinetuneConfig
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.examples import Splits
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.user_table import Columns, load_table


def load_task(config: FinetuneConfig) -> tuple[Task, Splits, dict[str, str]]:
    """The task, its splits, and the names of the columns where it is the user's own table.

    Raises:
      UserError: neither a published task nor a table was given, or its files are not as they
        should be.
    """
    table = config.table
    if config.task:
        task = find_task(config.task)
        if table.train or table.dev or table.test:
            raise UserError(
                f"{task.title} is a published task, whose files --data names; --train, --dev and "
                "--test are of a table of your own. Leave out --task, or those."
            )
        if not config.data.path:
            raise UserError(
                f"--data is missing: the folder with the files of {task.title}, or "
                "tfds:NAME/CONFIG."
            )
        return task, load_splits(task, config.data.path), {}
    if not table.train:
        raise UserError(
            f"No task was given. Name a published one (--task={'|'.join(TASKS)}) with its --data, "
            "or a table of your own with --train=FILE, --text=COLUMN and --label=COLUMN."
        )
    if config.data.path:
        raise UserError(
            f"--data={config.data.path} is for a published task, and none was named; the files of "
            "a table of your own are --train, --dev and --test. Name the --task, or leave it out."
        )
    task, splits = load_table(
        table.kind,
        Columns(text=table.text, label=table.label, second_text=table.text_pair),
        train=table.train,
        dev=table.dev,
        test=table.test,
        dev_fraction=0.0 if table.dev else table.dev_fraction,
    )
    columns = {"text": table.text, "text_pair": table.text_pair, "label": table.label}
    return task, splits, {role: name for role, name in columns.items() if name}
