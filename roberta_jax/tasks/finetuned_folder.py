"""What fine-tuning leaves in a folder, for the verbs that take other folders."""

import os

from roberta_jax.errors import UserError

TASK_FILE = "task.json"  # Of a fine-tuned model.
MODEL_FOLDER = "model"  # In the folder of a task in a fine-tuning workdir.
TRIALS_FOLDER = "trials"  # Beside it.
_CONFIG_FILE = "config.json"  # Of a pretraining run, and of the folders of transformers.


def is_finetuning_workdir(folder: str | os.PathLike[str]) -> bool:
    """Whether `finetune` has begun or ended a task in it, and nothing was pretrained there."""
    from etils import epath  # Slow to import, and needed where a run is not found only.

    from roberta_jax.tasks.results import RESULTS_FILE

    path = epath.Path(folder)
    if (path / _CONFIG_FILE).exists():
        return False
    return (path / RESULTS_FILE).is_file() or any(path.glob(f"*/{TRIALS_FOLDER}"))


def what_finetuning_wrote(folder: str | os.PathLike[str]) -> str:
    """What a folder is: "a fine-tuned model", "a fine-tuning workdir", or "" where it is neither.

    A fine-tuned model is the folder of a task in such a workdir, too.
    """
    from etils import epath

    path = epath.Path(folder)
    if (path / TASK_FILE).is_file() or (path / MODEL_FOLDER / TASK_FILE).is_file():
        return "a fine-tuned model"
    return "a fine-tuning workdir" if is_finetuning_workdir(path) else ""


def check_not_finetuned(folder: str | os.PathLike[str]) -> None:
    """Raises UserError that names the way out where fine-tuning wrote a folder.

    For what takes the model of a pretraining run, and has found none there.
    """
    if what := what_finetuning_wrote(folder):
        raise UserError(
            f"{folder} is {what}, and this takes what was pretrained: the workdir of a "
            "`roberta-jax pretrain` run, or a folder of another system. Use `roberta-jax predict "
            f"--model={folder}` for its task, or name the model that it began with."
        )
