"""Results as tables for people, in Markdown: one row a task, and every trial of each."""

import dataclasses
import os
import re
import statistics
from collections.abc import Sequence

from etils import epath

from roberta_jax.page.document import write_whole
from roberta_jax.tasks.catalogue import GLUE
from roberta_jax.tasks.results import TaskResult, TrialResult
from roberta_jax.wording import count_of

TABLE_FILE = "results.md"
# BERT's paper leaves it out: its dev and train sets share texts with opposite labels.
_LEFT_OUT = "wnli"
_GLUE_NAMES = {task.name for task in GLUE}
_SCORE_TITLES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "exact_match": "exact match",
    "has_answer_f1": "F1 of answerable",
    "has_answer_exact_match": "exact match of answerable",
    "no_answer_accuracy": "accuracy of unanswerable",
    "best_f1": "best F1",
    "best_exact_match": "best exact match",
    "entity_f1": "entity F1",
    "entity_precision": "entity precision",
    "entity_recall": "entity recall",
    "token_accuracy": "word accuracy",
    "middle_accuracy": "middle",
    "high_accuracy": "high",
}
_SIZES = ("base", "large")
HEAD = (
    "task",
    "scores",
    "median of seeds",
    "best trial",
    "seeds",
    "training rows",
    "RoBERTa base, published",
    "RoBERTa large, published",
)
TRIAL_HEAD = (
    "learning rate",
    "batch",
    "epochs",
    "seeds",
    "median",
    "mean",
    "standard deviation",
    "min",
    "max",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Average:
    """The mean over the tasks of GLUE.

    Attributes:
      value: a fraction.
      titles: of the tasks it is over.
      without_wnli: whether WNLI was run and left out.
    """

    value: float
    titles: tuple[str, ...]
    without_wnli: bool


def glue_average(results: Sequence[TaskResult]) -> Average | None:
    """The average of dev figures over the tasks of GLUE among the results; None without any.

    A task with two scores, or two dev splits, counts with their mean. WNLI is left out unless it
    is the only one.
    """
    found = [result for result in results if result.name in _GLUE_NAMES]
    counted = [result for result in found if result.name != _LEFT_OUT] or found
    if not counted:
        return None
    return Average(
        value=statistics.fmean(result.mean_figure() for result in counted),
        titles=tuple(result.title for result in counted),
        without_wnli=len(counted) < len(found),
    )


def percent(value: float) -> str:
    """A fraction in percent with one decimal, as tables of papers have it."""
    return f"{100 * value:.1f}"


def score_title(name: str) -> str:
    """A score as tables call it."""
    return _SCORE_TITLES.get(name, name)


def split_title(split: str) -> str:
    """A dev split as tables call it: "matched" for "dev_matched"."""
    return split.removeprefix("dev_")


def trial_title(trial: TrialResult) -> str:
    """The settings of a trial in a few words."""
    return f"{trial.learning_rate:g}, batch {trial.batch_size}, {count_of(trial.epochs, 'epoch')}"


def task_rows(results: Sequence[TaskResult]) -> list[list[str]]:
    """The cells under HEAD, a row per task."""
    rows = []
    for result in results:
        figures, best = result.figures(), result.best_trial()
        names = [name for name in result.score_names if name in figures[result.dev[0]]]
        scores = " / ".join(map(score_title, names))
        if len(result.dev) > 1:
            scores += f" ({', '.join(map(split_title, result.dev))})"
        medians = [
            " / ".join(percent(spread.median) for spread in figures[split].values())
            for split in result.dev
        ]
        published = dict(result.published)
        rows.append(
            [
                result.title,
                scores,
                ", ".join(medians),
                trial_title(best),
                str(len(best.seeds)),
                f"{best.num_train:,}",
                *(f"{published[size]:.1f}" if size in published else "" for size in _SIZES),
            ]
        )
    return rows


def trial_rows(result: TaskResult) -> list[list[str]]:
    """The cells under TRIAL_HEAD, a row per trial, of the deciding score."""
    rows = []
    for trial in result.trials:
        spread = trial.spread(*result.decided_by)
        cells = [] if spread is None else [percent(value) for value in dataclasses.astuple(spread)]
        settings = [f"{trial.learning_rate:g}", str(trial.batch_size), f"{trial.epochs:g}"]
        rows.append([*settings, str(len(trial.seeds)), *cells])
    return rows


def remarks(results: Sequence[TaskResult]) -> list[str]:
    """What a reader of the table must know, a sentence or two each; plain text."""
    found = [
        "All figures of the tables are of the dev splits, in percent. The best epoch of each seed "
        "and the best trial are chosen by the first score on the first dev split."
    ]
    if any(result.published for result in results):
        where = "the first score on the first dev split"
        if any(result.name == "race" for result in results):
            where += " (RACE: on the test set)"
        found.append(
            f"Figures marked published are those of RoBERTa's authors, of {where}, and not of "
            "this run."
        )
    if any(result.name == "wnli" for result in results):
        found.append(
            "WNLI: the published figure is of another task. It was reached on SuperGLUE's version "
            "of the data, in which the pronoun is marked, and by ranking its candidates (paper "
            "section 5.1). Classified as pairs, as here, it mostly stays at the share of the more "
            "frequent class."
        )
    for result in results:
        seeds = result.best_trial().seeds
        if any(seed.no_answer_threshold is not None for seed in seeds):
            found.append(
                f"{result.title}: above which score a question is left unanswered was chosen on "
                "the dev split that is scored, for the best F1 there, as the official script's "
                "best F1 is. On other questions the same threshold gives a little less."
            )
    average = glue_average(results)
    if average is not None and len(results) > 1:
        left_out = "; WNLI is left out, as in BERT's paper" if average.without_wnli else ""
        found.append(
            f"Average of dev figures over {', '.join(average.titles)}: {percent(average.value)}. "
            f"A task with two scores or two dev splits counts with their mean{left_out}."
        )
    for result in results:
        found.extend(f"{result.title}: {note}" for note in result.notes)
        found.extend(lines_of_test_splits(result))
    return found


def lines_of_test_splits(result: TaskResult) -> list[str]:
    """What the model that is kept reaches on each test split that has labels."""
    lines = []
    for split, scores in result.test_scores.items():
        figures = ", ".join(f"{score_title(name)} {percent(v)}" for name, v in scores.items())
        lines.append(
            f"{result.title}, {split} (not used for any choice): {figures}; of the one model that "
            "is kept."
        )
    return lines


def start_of(result: TaskResult) -> str:
    """Where the encoder came from, with its size."""
    start = f"from {result.init_from}" if result.init_from else "from random weights"
    return f"{result.num_parameters:,} parameters, {start}"


def markdown_table(results: Sequence[TaskResult]) -> str:
    """The whole `results.md`."""
    parts = ["# Results of fine-tuning", _table(HEAD, task_rows(results))]
    average = glue_average(results)
    if average is not None and len(results) > 1:
        parts.append(f"**Average: {percent(average.value)}**")
    parts.append("\n".join(f"- {_escape(remark)}" for remark in remarks(results)))
    for result in results:
        parts.append(f"## {_escape(result.title)}")
        split, score = result.decided_by
        by = f"{score_title(score)} on {split_title(split)}"
        parts.append(_escape(f"{start_of(result)}. Trials by {by}, over the seeds:"))
        parts.append(_table(TRIAL_HEAD, trial_rows(result)))
    return "\n\n".join(parts) + "\n"


def write_table(folder: str | os.PathLike[str], results: Sequence[TaskResult]) -> epath.Path:
    """Writes `results.md` into a workdir, whole or not at all; returns its path."""
    return write_whole(epath.Path(folder) / TABLE_FILE, markdown_table(results).encode())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Plain text in Markdown, on one line."""
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(text.split()))
