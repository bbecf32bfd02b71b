"""What came of the trials of a task: its result, its best model, what is said and written."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from roberta_jax.data.output_folder import new_folder
from roberta_jax.errors import UserError
from roberta_jax.finetune.task_run import TaskRun, TrialOutcome
from roberta_jax.report.finetuning import write_finetuning_report
from roberta_jax.tasks.finetuned_folder import MODEL_FOLDER
from roberta_jax.tasks.results import (
    RESULTS_FILE,
    TaskResult,
    TrialResult,
    read_results,
    task_result,
    write_results,
)
from roberta_jax.tasks.results_table import lines_of_test_splits, score_title, write_table
from roberta_jax.train.console import RunConsole


def result_of(
    run: TaskRun,
    outcomes: Sequence[TrialOutcome],
    notes: tuple[str, ...],
    num_parameters: int,
    init_from: str,
) -> TaskResult:
    """The trials of one rate and batch size together, and the confusion of the best one."""
    together: dict[tuple[float, int], list[TrialOutcome]] = {}
    for outcome in outcomes:
        key = (outcome.trial.learning_rate, outcome.trial.batch_size)
        together.setdefault(key, []).append(outcome)
    trials = [
        TrialResult(
            learning_rate=rate,
            batch_size=batch_size,
            epochs=run.config.fit.epochs,
            seeds=tuple(seed for outcome in group for seed in outcome.seeds),
            num_train=len(run.train.rows),
        )
        for (rate, batch_size), group in together.items()
    ]
    result = task_result(
        run.task,
        trials,
        notes=(*notes, *(note for outcome in outcomes for note in outcome.notes)),
        num_cut=run.train.rows.num_cut,
        init_from="" if run.config.model.random_weights else init_from,
        num_parameters=num_parameters,
    )
    confusion = _confusion(outcomes, result)
    rows = None if confusion is None else tuple(map(tuple, confusion))
    return dataclasses.replace(result, confusion=rows)


def _of_best_trial(outcomes: Sequence[TrialOutcome], result: TaskResult) -> list[TrialOutcome]:
    """Those of the rate and batch size that count; seeds may be divided among several."""
    best = result.best_trial()
    key = (best.learning_rate, best.batch_size)
    return [each for each in outcomes if (each.trial.learning_rate, each.trial.batch_size) == key]


def _confusion(outcomes: Sequence[TrialOutcome], result: TaskResult) -> list[list[int]] | None:
    """That of the seed that stands for the best trial."""
    seed = result.median_seed().seed
    for outcome in _of_best_trial(outcomes, result):
        if seed in outcome.trial.seeds:
            return outcome.confusions[outcome.trial.seeds.index(seed)]
    return None


def one_class_only(outcomes: Sequence[TrialOutcome], result: TaskResult) -> str:
    """A sentence where models of the best trial say the same of every dev row, or ""."""
    confusions = [
        np.array(confusion)
        for outcome in _of_best_trial(outcomes, result)
        for confusion in outcome.confusions
        if confusion is not None
    ]
    # Rows are true classes, columns are predicted ones.
    found = [c.any(axis=0).sum() == 1 and c.any(axis=1).sum() > 1 for c in confusions]
    if not any(found):
        return ""
    what = "words" if result.kind == "tokens" else "rows"
    of = "" if all(found) else f" by {sum(found)} of {len(found)} seeds"
    return (
        f"one class is predicted{of} for all {what} of {result.dev[0]}: nothing was learned; try "
        "other --learning_rates (small models want 3e-4 to 1e-3) or more --epochs"
    )


def keep_best(outcomes: Sequence[TrialOutcome], result: TaskResult, folder: pathlib.Path) -> None:
    """The model of the best seed of the best trial becomes that of the task."""
    split, score = result.decided_by
    outcome = max(
        _of_best_trial(outcomes, result),
        key=lambda each: max(seed.scores[split][score] for seed in each.seeds),
    )
    with new_folder(folder / MODEL_FOLDER) as partial:
        shutil.copytree(outcome.folder, partial, dirs_exist_ok=True)


def write_task_result(workdir: pathlib.Path, result: TaskResult) -> None:
    """The results of this task beside those of the others of the workdir."""
    others: list[TaskResult] = []
    if (workdir / RESULTS_FILE).exists():
        with contextlib.suppress(UserError):  # Written anew; every trial has its own file.
            others = [each for each in read_results(workdir) if each.name != result.name]
    results = [*others, result]
    write_results(workdir, results)
    write_table(workdir, results)
    write_finetuning_report(workdir)


def say_result(result: TaskResult, console: RunConsole) -> None:
    """The figures of the best trial, a line for each split."""
    best = result.best_trial()
    for split, scores in result.figures().items():
        figures = ", ".join(
            f"{score_title(name)} {100 * spread.median:.1f}"
            + (
                f" ({100 * spread.min:.1f} to {100 * spread.max:.1f})"
                if len(best.seeds) > 1
                else ""
            )
            for name, spread in scores.items()
        )
        # The last line of progress may be a worse one.
        at = "at the best evaluation"
        if len(best.seeds) > 1:
            at = f"median of {len(best.seeds)} seeds, each at its best evaluation"
        console.say(
            f"{result.title} {split}: {figures}, {at}; rate {best.learning_rate:g}, batch "
            f"{best.batch_size}"
        )
    for line in lines_of_test_splits(result):
        console.say(line)
