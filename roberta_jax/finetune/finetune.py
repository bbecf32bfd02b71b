"""The story of a fine-tuning run, from a config to a table of results. Read this page first.

One trial, with its loop, is in `trial`.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax

from roberta_jax.config import FinetuneConfig
from roberta_jax.data.output_folder import local_path
from roberta_jax.encoder.task_model import abstract_task_params
from roberta_jax.errors import INTERRUPTED, UserError
from roberta_jax.finetune.conclusion import (
    keep_best,
    one_class_only,
    result_of,
    say_result,
    write_task_result,
)
from roberta_jax.finetune.model_folder import RowLimits
from roberta_jax.finetune.objective import TaskObjective, head_of
from roberta_jax.finetune.predict import predict_splits
from roberta_jax.finetune.rows import BatchMaker, SplitRows, cut_texts, share_of
from roberta_jax.finetune.source import StartingEncoder, open_encoder
from roberta_jax.finetune.task_data import load_task
from roberta_jax.finetune.task_run import TaskRun, Trial
from roberta_jax.finetune.trial import run_trial
from roberta_jax.finetune.trial_record import earlier_outcomes
from roberta_jax.parallel.host_memory import keep_freed_memory
from roberta_jax.parallel.mesh import check_batch, make_mesh
from roberta_jax.tasks.catalogue import TASKS, find_task
from roberta_jax.tasks.examples import TRAIN, Splits
from roberta_jax.tasks.features import make_rows
from roberta_jax.tasks.finetuned_folder import MODEL_FOLDER, TRIALS_FOLDER
from roberta_jax.tasks.scores import check_scores
from roberta_jax.tasks.task import Task
from roberta_jax.train import workdir as workdir_lib
from roberta_jax.train.console import RunConsole
from roberta_jax.train.programs import kept_programs
from roberta_jax.wording import count_of

PREDICTIONS_FOLDER = "predictions"
# Models with fewer parameters are trained with all seeds side by side.
SMALL_PARAMETERS = 20_000_000
_MOST_TOKENS = 512  # Of a row, where nothing else is asked for.


def finetune(
    config: FinetuneConfig,
    workdir: str | pathlib.Path,
    *,
    init_from: str,
    resume: str = "auto",
) -> int:
    """Fine-tunes an encoder for a task, or goes on with it.

    Args:
      config: the task, the rows, the sweep.
      workdir: receives a folder of the task (trials, the best model, predictions) and the results
        of all tasks that were run in it.
      init_from: a pretraining workdir, a Hugging Face or fairseq folder, or a fine-tuned model.
      resume: "auto" goes on with what is there; "never" wants no trial of the task to be there.

    Returns:
      The exit code: 0, or 130 after an interrupt with the state saved.

    Raises:
      UserError: something that the user can mend; nothing was changed.
    """
    config.validate()
    workdir = local_path(workdir)
    if resume not in ("auto", "never"):
        raise UserError(f"--resume={resume} is not understood. Use auto or never.")
    if (workdir / workdir_lib.CONFIG_FILE).exists():
        raise UserError(
            f"{workdir} is the workdir of a pretraining run. Give fine-tuning one of its own, for "
            f"example --workdir={workdir / 'finetuned'}."
        )
    keep_freed_memory()

    # ---- The task and its files -----------------------------------------------------------------
    task, splits, columns = load_task(config)
    check_scores(task)
    mesh = make_mesh(config.mesh)
    for batch_size in config.batches():
        check_batch(batch_size, 1, mesh)

    # ---- The encoder, and the rows that it reads ------------------------------------------------
    start = open_encoder(init_from, mesh, config.model, task=task.starts_from)
    limits = _limits(config, start)
    folder = workdir / task.name
    if resume == "never" and (folder / TRIALS_FOLDER).exists():
        raise UserError(
            f"--resume=never, and {folder} already has trials. Choose another --workdir, or "
            "--resume=auto to go on with them."
        )
    workdir_lib.make_workdir(workdir)
    with (
        workdir_lib.locked(workdir),
        kept_programs(workdir / workdir_lib.PROGRAMS_FOLDER),
        jax.set_mesh(mesh),
        RunConsole() as console,
    ):
        train, dev, notes = _rows(task, splits, config, start, limits)
        notes += _mostly_cut(task, (train, *dev), limits, start.config.max_positions)
        head = head_of(task, dropout_rate=config.model.head_dropout_rate)
        run = TaskRun(
            task=task,
            config=config,
            start=start,
            train=train,
            dev=dev,
            limits=limits,
            columns=columns,
            mesh=mesh,
            objective=TaskObjective(start.config, head, task.kind, train.rows.group_size),
            maker=BatchMaker(
                mesh,
                pad_id=start.config.pad_id,
                token_types=start.config.num_token_types > 1,
                max_length=limits.max_length,
            ),
        )
        num_parameters = _num_parameters(start, run.objective)
        _announce(run, num_parameters, notes, console)

        # ---- The trials -------------------------------------------------------------------------
        outcomes = []
        for trial in _trials(config, num_parameters):
            place = folder / TRIALS_FOLDER / trial.name
            console.say(
                f"{task.title}: rate {trial.learning_rate:g}, batch {trial.batch_size}, seeds "
                f"{', '.join(map(str, trial.seeds))}"
            )
            outcome = run_trial(run, trial, place, console)
            if outcome is None:
                console.say("interrupted; the same command goes on from here")
                return INTERRUPTED
            outcomes.append(outcome)
        earlier, left_out = earlier_outcomes(folder / TRIALS_FOLDER, outcomes)
        for found, what in (
            (earlier, "trials of before count as well"),
            (left_out, "trials of before are left out, for they share a seed with one that counts"),
        ):
            if found:
                names = ", ".join(outcome.trial.name for outcome in found)
                console.say(f"{what}: {names}")
        outcomes += earlier

        # ---- What came of it --------------------------------------------------------------------
        result = result_of(run, outcomes, notes, num_parameters, init_from)
        if remark := one_class_only(outcomes, result):
            console.say(f"note: {remark}")
            result = dataclasses.replace(result, notes=(*result.notes, remark))
        keep_best(outcomes, result, folder)
        write_task_result(workdir, result)
        test = {name: splits.splits[name] for name in task.test if name in splits.splits}
        tested = predict_splits(folder / MODEL_FOLDER, test, folder / PREDICTIONS_FOLDER, mesh)
        for path in tested.files:
            console.say(f"predictions: {path}")
        for note in tested.notes:
            console.say(f"note: {note}")
        if tested.scores or tested.notes:  # Only now: nothing is chosen by these scores.
            result = dataclasses.replace(
                result, test_scores=tested.scores, notes=(*result.notes, *tested.notes)
            )
            write_task_result(workdir, result)
        say_result(result, console)
        console.say(f"results: {workdir / 'results.md'}, {workdir / 'report.html'}")
    return 0


def _limits(config: FinetuneConfig, start: StartingEncoder) -> RowLimits:
    longest = start.config.max_positions
    length = config.data.max_length or min(longest, _MOST_TOKENS)
    if length > longest:
        raise UserError(
            f"config.data.max_length is {length}; this model takes at most {longest} tokens."
        )
    return RowLimits(
        max_length=length,
        window_stride=config.data.window_stride,
        max_question_tokens=config.data.max_question_tokens,
        max_option_tokens=config.data.max_option_tokens,
    )


def _rows(
    task: Task,
    splits: Splits,
    config: FinetuneConfig,
    start: StartingEncoder,
    limits: RowLimits,
) -> tuple[SplitRows, tuple[SplitRows, ...], tuple[str, ...]]:
    """The training rows, those of the dev splits, and what a reader of the figures must know."""
    notes = list(splits.notes)
    # Of random weights, `init_from` says enough.
    if task.starts_from and start.params and start.finetuned_for != task.starts_from:
        first = find_task(task.starts_from).title
        begins = find_task(start.finetuned_for).title if start.finetuned_for in TASKS else ""
        notes.append(
            f"begins with {f'the model of {begins}' if begins else 'the encoder as it is'}, not "
            f"with one that was fine-tuned for {first}, as the published figures of {task.title} do"
        )

    def rows_of(name: str) -> SplitRows:
        examples = splits.splits[name]
        if name == TRAIN and config.data.train_share < 1:
            examples = share_of(examples, config.data.train_share, seed=config.seed)
            notes.append(
                f"trained on {count_of(len(examples), 'example')}, {config.data.train_share:.1%} "
                "of those that are there"
            )
        rows = make_rows(task, examples, start.tokenizer, **dataclasses.asdict(limits))
        if text := cut_texts(task, rows, limits):
            notes.append(f"{name}: {text}; they were cut")
        if rows.num_unreachable:
            notes.append(
                f"{name}: {rows.num_unreachable:,} answers are wholly in no window of "
                f"{limits.max_length} tokens"
            )
        return SplitRows(name, examples, rows)

    train, dev = rows_of(TRAIN), tuple(rows_of(name) for name in task.dev)
    return train, dev, tuple(notes)


def _mostly_cut(
    task: Task, splits: Sequence[SplitRows], limits: RowLimits, longest: int
) -> tuple[str, ...]:
    """A sentence where most of what is read is not read to its end; none where it is."""
    if task.kind == "span":  # A passage is read in windows, to its end.
        return ()
    names = [split.name for split in splits if 2 * split.rows.num_cut > len(split.rows.ids)]
    if not names:
        return ()
    if limits.max_length < longest:
        remedy = f"raise --max_length; this model takes up to {longest} tokens"
    else:
        remedy = "this model takes no longer rows; pretrain one with more encoder.max_positions"
    return (f"most texts of {' and '.join(names)} are not read to their end: {remedy}",)


def _trials(config: FinetuneConfig, num_parameters: int) -> list[Trial]:
    seeds = config.seeds()
    at_once = config.fit.seeds_at_once or (len(seeds) if num_parameters < SMALL_PARAMETERS else 1)
    return [
        Trial(rate, batch_size, seeds[begin : begin + at_once])
        for rate in config.rates()
        for batch_size in config.batches()
        for begin in range(0, len(seeds), at_once)
    ]


def _num_parameters(start: StartingEncoder, objective: TaskObjective) -> int:
    """Of encoder and head, without the padding rows of the vocabulary."""
    shapes = abstract_task_params(start.config, objective.head)
    padding = start.config.padded_vocab_size() - start.config.vocab_size
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return total - padding * start.config.hidden_size


def _announce(run: TaskRun, num_parameters: int, notes: Sequence[str], console: RunConsole) -> None:
    encoder = run.start.config
    console.say(
        f"encoder: {encoder.num_layers} layers x {encoder.hidden_size}, "
        f"{num_parameters / 1e6:,.1f}M parameters with the head; {run.start.description}"
    )
    sizes = ", ".join(f"{split.name} {len(split.examples):,}" for split in (run.train, *run.dev))
    console.say(f"{run.task.title}: {sizes} examples; rows of at most {run.limits.max_length}")
    for note in notes:
        console.say(f"note: {note}")
