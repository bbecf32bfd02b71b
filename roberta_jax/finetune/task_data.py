"""The task of a config, and the examples of its files."""

from roberta_jax.config import FinetuneConfig, TableConfig
from roberta_jax.data.inputs import path_of
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tables import SUFFIXES
from roberta_jax.data.tfds_source import is_tfds
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.examples import Splits
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.user_table import Columns, load_table

# Of a table of the user's own; a published task has its files and columns.
_FILES, _COLUMNS = ("train", "dev", "test"), ("text", "text_pair", "label")


def check_file(flag: str, path: str) -> None:
    """Raises UserError, with the name of the flag, for a table that is not there."""
    if is_tfds(path) or path_of(path).is_file():
        return
    what = "is a folder" if path_of(path).is_dir() else "is not there"
    raise UserError(
        f"--{flag}={path} {what}. Give a file whose name ends in {', '.join(SUFFIXES)}, or "
        "tfds:NAME/CONFIG:SPLIT."
    )


def check_named(config: FinetuneConfig, init_from: str) -> None:
    """Raises UserError where the task is not named as it must be, or what is named is not there.

    It needs no jax and reads nothing, so that a slip is answered at once.
    """
    check_task(config)
    data = config.data.path
    if data and not is_tfds(data) and not path_of(data).exists():
        raise UserError(
            f"--data={data} is not there. Give the folder with the files of "
            f"{find_task(config.task).title}, or tfds:NAME/CONFIG."
        )
    if not local_path(init_from).exists():
        raise UserError(
            f"--init_from={init_from} is not there. Give a pretraining workdir, a Hugging Face or "
            "fairseq folder, or a fine-tuned model. Nothing is downloaded: `hf download NAME "
            "--local-dir FOLDER` does that."
        )


def check_task(config: FinetuneConfig) -> None:
    """Raises UserError unless a published task with its files was named, or a table."""
    table = config.table
    if config.task:
        title = find_task(config.task).title
        default = TableConfig()
        given = [
            f"--{name}={getattr(table, name)}"
            for name in (*_FILES, *_COLUMNS)
            if getattr(table, name) != getattr(default, name)
        ]
        if given:
            raise UserError(
                f"{title} is a published task, whose files --data names and whose columns are "
                f"known; {' and '.join(given)} {'is' if len(given) == 1 else 'are'} of a table of "
                f"your own. Leave {'it' if len(given) == 1 else 'them'} out, or the task (--task, "
                "or the recipe in --config)."
            )
        if not config.data.path:
            raise UserError(
                f"--data is missing: the folder with the files of {title}, or tfds:NAME/CONFIG."
            )
        return
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
    for name in _FILES:
        if path := getattr(table, name):
            check_file(name, path)


def load_task(config: FinetuneConfig) -> tuple[Task, Splits, dict[str, str]]:
    """The task, its splits, and the names of the columns where it is the user's own table.

    Raises:
      UserError: neither a published task nor a table was given, or its files are not as they
        should be.
    """
    check_task(config)
    table = config.table
    if config.task:
        task = find_task(config.task)
        return task, load_splits(task, config.data.path), {}
    task, splits = load_table(
        table.kind,
        Columns(text=table.text, label=table.label, second_text=table.text_pair),
        train=table.train,
        dev=table.dev,
        test=table.test,
        dev_fraction=0.0 if table.dev else table.dev_fraction,
    )
    columns = {role: getattr(table, role) for role in _COLUMNS}
    return task, splits, {role: name for role, name in columns.items() if name}
