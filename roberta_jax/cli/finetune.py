r"""Fine-tunes an encoder for a task, with several seeds and settings, and draws the results.

roberta-jax finetune --config=configs/finetune/glue.py:sst2 --init_from=runs/small \
  --data=glue --workdir=runs/glue --seeds=5
roberta-jax finetune --config=configs/finetune/glue.py:all --init_from=runs/small --data=glue \
  --workdir=runs/glue
roberta-jax finetune --task=classification --train=train.csv --dev=dev.csv --text=review \
  --label=stars --init_from=runs/small --workdir=runs/stars

The model to begin with is a pretraining workdir, a Hugging Face or fairseq folder, or a fine-tuned
model (RTE, STS-B and MRPC begin with MNLI's in the paper). Published tasks are read in their own
files: the nine tasks of GLUE, squad1, squad2, race. A table of your own is TSV, CSV, JSON lines or
Parquet; --task says what its label column holds: classes (classification), numbers (regression),
or a label for every word of the text (tokens).

For every rate and batch size, the median over the seeds of the best dev score counts, as in the
paper. The workdir receives results.md, results.json, report.html and a folder for each task: its
best model (model/), predictions for the test split (predictions/), the record of each trial. Ctrl-C
saves, and the same command goes on.
"""

import copy
import pathlib
from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_for, define_config, finetuning_help
from roberta_jax.config import FinetuneConfig, set_field
from roberta_jax.config.finetuning import TABLE_KINDS
from roberta_jax.errors import UserError

SUMMARY = "train a model for GLUE, SQuAD, RACE or a table of your own"
TAKES_CONFIG = True
ALL = "all"

# Published task → file of its recipe; those of GLUE share one.
_RECIPES = {"squad1": "squad.py:squad1", "squad2": "squad.py:squad2", "race": "race.py"}

extra_help = finetuning_help

# Flag → field of the config that it sets.
_FIELDS = {
    "data": "data.path",
    "max_length": "data.max_length",
    "train_share": "data.train_share",
    "seeds": "num_seeds",
    "learning_rates": "fit.learning_rates",
    "batch_sizes": "fit.batch_sizes",
    "epochs": "fit.epochs",
    **{name: f"table.{name}" for name in ("train", "dev", "test", "text", "text_pair", "label")},
}


def define_flags(flags: absl_flags.FlagValues, argv: list[str]) -> None:
    """Defines the flags of this verb in `flags`."""
    define_config(flags, argv, FinetuneConfig)
    without = FinetuneConfig()
    (rate,), (batch_size,) = without.rates(), without.batches()
    recipe = "(default: the recipe's; without one {}).".format
    for name, explanation in (
        ("task", "A published task, or all of GLUE; of a table: classification|regression|tokens."),
        ("data", "Folder of the task's files, of GLUE's folders, or tfds:NAME/CONFIG."),
        ("train", "The user's table: training rows."),
        ("dev", "Rows that models are judged on; without, a tenth of the training rows."),
        ("test", "Rows without labels, to predict."),
        ("text", "Column of the text (default: text)."),
        ("text_pair", "Column of the second text, of pairs."),
        ("label", "Column of the label (default: label)."),
        ("init_from", "The model to begin with: a workdir or a Hugging Face folder."),
        ("workdir", "Folder that receives results and models."),
        ("learning_rates", f"Rates to try, such as 1e-5,2e-5,3e-5 {recipe(rate)}"),
        ("batch_sizes", f"Batch sizes to try, such as 16,32 {recipe(batch_size)}"),
    ):
        absl_flags.DEFINE_string(name, None, explanation, flag_values=flags)
    for name, explanation in (
        ("seeds", f"Seeds to train with; their median counts {recipe(without.num_seeds)}"),
        ("max_length", f"Tokens of a row, at most {recipe('what the model takes, at most 512')}"),
    ):
        absl_flags.DEFINE_integer(name, None, explanation, lower_bound=1, flag_values=flags)
    for name, explanation, default in (
        ("epochs", "Passes over the training rows", without.fit.epochs),
        ("train_share", "Share of the training rows that is used", without.data.train_share),
    ):
        text = f"{explanation} {recipe(f'{default:g}')}"
        absl_flags.DEFINE_float(name, None, text, flag_values=flags)
    absl_flags.DEFINE_enum(
        "resume",
        "auto",
        ["auto", "never"],
        "auto: goes on with the trials of the workdir; never: wants none there.",
        flag_values=flags,
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"finetune takes no positional arguments, got {arguments}.")
    for name, what in (
        ("init_from", "the model to begin with, a workdir or a Hugging Face folder"),
        ("workdir", "the folder that receives results and models"),
    ):
        if not getattr(flags, name):
            raise UserError(f"--{name} is missing: {what}.")
    task = flags.task or (flags.config.task if flags.config else "")
    if task == ALL:
        return _run_all(flags)
    return _finetune(_with_flags(flags, _config(flags, task)), flags, flags.init_from)


def _config(flags: Any, task: str) -> FinetuneConfig:
    """The settings of a task, as --config has them, before other flags."""
    config: FinetuneConfig = copy.deepcopy(flags.config) or FinetuneConfig()
    if task in TABLE_KINDS:
        config.task, config.table.kind = "", task
        return config
    if task and not (flags.config and flags["config"].given_path):
        print(
            f"no --config: {task} is trained with the defaults; --config=configs/finetune/"
            f"{_RECIPES.get(task, f'glue.py:{task}')} has the published settings"
        )
    if config.task not in ("", task):  # The recipe of another task, or of all.
        try:
            config = config_for(flags, task, FinetuneConfig)
        except UserError as error:
            raise UserError(
                f"--task={task}, and --config is a recipe for {config.task}. {error}"
            ) from error
    config.task = task
    return config


def _run_all(flags: Any) -> int:
    """Every task of GLUE whose files are there; those that begin with MNLI's come after it."""
    from roberta_jax.finetune.model_folder import find_task_model
    from roberta_jax.finetune.task_data import load_task
    from roberta_jax.tasks.catalogue import GLUE
    from roberta_jax.tasks.load import glue_tasks_in

    data = flags.data or (flags.config.data.path if flags.config else "")
    if not data:
        raise UserError("--data is missing: the folder with GLUE's folders (SST-2, CoLA, …).")
    tasks = glue_tasks_in(data)
    if not tasks:
        titles = ", ".join(task.title for task in GLUE)
        raise UserError(f"There is no task of GLUE in {data}: none of the folders {titles}.")
    left_out = [task.title for task in GLUE if task not in tasks]
    if left_out:
        print(f"not in {data}, and left out: {', '.join(left_out)}")
    tasks = sorted(tasks, key=lambda task: bool(task.starts_from))
    configs = [_with_flags(flags, _config(flags, task.name)) for task in tasks]
    for config in configs:  # What is wrong with the last one is told before the first is trained.
        config.validate()
        load_task(config)
    for task, config in zip(tasks, configs, strict=True):
        source, workdir = flags.init_from, pathlib.Path(flags.workdir)
        if task.starts_from and not config.model.random_weights:
            found = find_task_model(workdir / task.starts_from)
            source = str(found) if found else source
        code = _finetune(config, flags, source)
        if code:
            return code
    return 0


def _with_flags(flags: Any, config: FinetuneConfig) -> FinetuneConfig:
    for name, path in _FIELDS.items():
        value = getattr(flags, name)
        if value is not None:
            set_field(config, path, value)
    return config


def _finetune(config: FinetuneConfig, flags: Any, init_from: str) -> int:
    from roberta_jax.finetune import task_data

    # Before jax is loaded, which takes seconds.
    config.validate()
    task_data.check_named(config, init_from)
    from roberta_jax.finetune.finetune import finetune

    return finetune(config, flags.workdir, init_from=init_from, resume=flags.resume)
