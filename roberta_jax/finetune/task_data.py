"""The task of a config, and the examples of its files."""

from roberta_jax.config import FinetuneConfig
from roberta_jax.data.inputs import input_file, path_of
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tfds_source import is_tfds
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.examples import Splits
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.user_table import Columns, load_table


def check_named(config: FinetuneConfig, init_from: str) -> None:
    """Raises UserError where the task is not named as it must be, or what is named is not there.

    It needs no jax and reads nothing, so that a slip is answered at once.
    """
    check_task(config)
    table, data = config.table, config.data.path
    for path in (table.train, table.dev, table.test):
        if path and not is_tfds(path):
            input_file(path)
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
        if table.train or table.dev or table.test:
            raise UserError(
                f"{title} is a published task, whose files --data names; --train, --dev and --test "
                "are of a table of your own. Leave out --task, or those."
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
    columns = {"text": table.text, "text_pair": table.text_pair, "label": table.label}
    return task, splits, {role: name for role, name in columns.items() if name}
