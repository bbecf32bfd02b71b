"""What fine-tuning came to: the scores of seeds, trials and tasks, and their file.

A task is tried with several learning rates and batch sizes, and each of these trials with several
seeds. As in the paper (section 5.1 and appendix): the best epoch of a seed is that with the best
first score on the first dev split; the figure of a trial is the median over its seeds; the best
trial is that with the best median. Scores are fractions.
"""

import dataclasses
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from etils import epath

from roberta_jax.errors import UserError
from roberta_jax.page.document import write_whole
from roberta_jax.tasks.task import Task

RESULTS_FILE = "results.json"
FORMAT = 1  # Of the file; raised when an older reader would misunderstand it.

# Split → name of the score → value.
Scores: TypeAlias = Mapping[str, Mapping[str, float]]
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One evaluation.

    Attributes:
      step: updates applied before it.
      epoch: passes over the training rows before it.
      scores: of every dev split.
      no_answer_threshold: of a task with unanswerable questions, the one chosen on the first dev
        split here; None otherwise.
    """

    step: int
    epoch: float
    scores: Scores
    no_answer_threshold: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """One training.

    Attributes:
      seed: of the head's weights, the order of the rows and dropout.
      best_epoch: of the evaluation that counts.
      best_step: of the same.
      scores: of the same.
      curve: every evaluation, in order.
      no_answer_threshold: of the evaluation that counts; for predictions of the test split.
    """

    seed: int
    best_epoch: float
    best_step: int
    scores: Scores
    curve: tuple[CurvePoint, ...]
    no_answer_threshold: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """Several values: their median, mean, sample standard deviation (0 of one), least, greatest."""

    median: float
    mean: float
    deviation: float
    min: float
    max: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One learning rate and batch size.

    Attributes:
      learning_rate: the peak.
      batch_size: rows of an update.
      epochs: passes over the training rows that were planned.
      seeds: at least one.
      num_train: rows that were trained on.
    """

    learning_rate: float
    batch_size: int
    epochs: float
    seeds: tuple[SeedResult, ...]
    num_train: int

    def values(self, split: str, score: str) -> list[float]:
        """The score of each seed at its best epoch; without seeds that do not have it."""
        found = (seed.scores.get(split, {}).get(score) for seed in self.seeds)
        return [value for value in found if value is not None]

    def spread(self, split: str, score: str) -> Spread | None:
        """Over the seeds; None where none has the score."""
        values = self.values(split, score)
        if not values:
            return None
        return Spread(
            median=statistics.median(values),
            mean=statistics.fmean(values),
            deviation=statistics.stdev(values) if len(values) > 1 else 0.0,
            min=min(values),
            max=max(values),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """All that was tried of a task.

    Attributes:
      name: of the task.
      title: of the task.
      kind: of the task.
      labels: of the task.
      score_names: of the task, the deciding one first.
      dev: splits that were scored, the deciding one first.
      trials: at least one.
      confusion: counts on the first dev split, a row per true class, of the seed that stands for
        the best trial (`median_seed`); None where there are no classes.
      published: of the task.
      notes: what a reader of the figures must know, a sentence each.
      num_cut: training rows whose text did not fit and was cut; of span, questions. The notes say
        what was cut of which split.
      test_scores: of test splits that have labels: split → score → value of the one model that is
        kept. Nothing is chosen by them.
      init_from: where the encoder came from; "" for random weights.
      num_parameters: of the encoder with the head.
    """

    name: str
    title: str
    kind: str
    labels: tuple[str, ...]
    score_names: tuple[str, ...]
    dev: tuple[str, ...]
    trials: tuple[TrialResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None = None
    published: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    num_cut: int = 0
    test_scores: Scores = dataclasses.field(default_factory=dict)
    init_from: str = ""
    num_parameters: int = 0

    @property
    def decided_by(self) -> tuple[str, str]:
        """The split and the score by which epochs and trials are chosen."""
        return self.dev[0], self.score_names[0]

    def best_trial(self) -> TrialResult:
        """That with the best median; the first of equal ones."""
        return max(self.trials, key=lambda trial: _median(trial, *self.decided_by))

    def median_seed(self) -> SeedResult:
        """The seed that stands for the best trial: the lower middle one by the deciding score."""
        split, score = self.decided_by
        ordered = sorted(self.best_trial().seeds, key=lambda seed: seed.scores[split][score])
        return ordered[(len(ordered) - 1) // 2]

    def figures(self) -> dict[str, dict[str, Spread]]:
        """Split → score → spread over the seeds of the best trial."""
        best = self.best_trial()
        return {
            split: {
                score: spread
                for score in self.score_names
                if (spread := best.spread(split, score)) is not None
            }
            for split in self.dev
        }

    def mean_figure(self) -> float:
        """One number for the task: the mean over dev splits of the means over scores of medians."""
        return statistics.fmean(
            statistics.fmean(spread.median for spread in scores.values())
            for scores in self.figures().values()
            if scores
        )


def seed_result(task: Task, seed: int, curve: Sequence[CurvePoint]) -> SeedResult:
    """A training with its best epoch: the best deciding score, the first of equal ones."""
    best = max(curve, key=lambda point: point.scores[task.dev[0]][task.scores[0]])
    return SeedResult(
        seed=seed,
        best_epoch=best.epoch,
        best_step=best.step,
        scores=best.scores,
        curve=tuple(curve),
        no_answer_threshold=best.no_answer_threshold,
    )


def curve_point(fields: Mapping[str, Any]) -> CurvePoint:
    """The inverse of `dataclasses.asdict`."""
    return _build(CurvePoint, fields)


def task_result(task: Task, trials: Sequence[TrialResult], **fields: Any) -> TaskResult:
    """The result of a task; `fields` are those of `TaskResult` that the task does not know."""
    return TaskResult(
        name=task.name,
        title=task.title,
        kind=task.kind,
        labels=task.labels,
        score_names=task.scores,
        dev=task.dev,
        published=task.published,
        trials=tuple(trials),
        **fields,
    )


def write_results(folder: str | os.PathLike[str], results: Sequence[TaskResult]) -> epath.Path:
    """Writes `results.json` into a workdir, whole or not at all; returns its path.

    Beside what `read_results` reads, every task has its figures under "figures", for people.
    """
    tasks = []
    for result in results:
        figures = {
            split: {score: dataclasses.asdict(spread) for score, spread in scores.items()}
            for split, scores in result.figures().items()
        }
        tasks.append({**dataclasses.asdict(result), "figures": figures})
    text = json.dumps(
        {"format": FORMAT, "tasks": tasks}, indent=1, ensure_ascii=False, allow_nan=False
    )
    return write_whole(epath.Path(folder) / RESULTS_FILE, f"{text}\n".encode())


def read_results(folder: str | os.PathLike[str]) -> tuple[TaskResult, ...]:
    """The results of a workdir.

    Raises:
      UserError: there are none, or the file is not one that this version writes.
    """
    path = epath.Path(folder) / RESULTS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} has no {RESULTS_FILE}, so it is no workdir in which `roberta-jax finetune` "
            "has finished a trial. Name such a folder."
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON: {error}. It was changed after it was written; run the same "
            "`roberta-jax finetune` again, which writes it anew."
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(
            f"{path} has the format {found!r}; this version of roberta_jax reads {FORMAT}. Use "
            "the version that wrote it."
        )
    try:
        return tuple(_task_from(fields) for fields in content["tasks"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold what it should ({type(error).__name__}: {error}). It was "
            "changed after it was written; run the same `roberta-jax finetune` again, which "
            "writes it anew."
        ) from error


def _task_from(fields: Mapping[str, Any]) -> TaskResult:
    fields = {"test_scores": {}, **fields}  # Files of older versions have none.
    confusion = fields["confusion"]
    return _build(
        TaskResult,
        fields,
        labels=tuple(fields["labels"]),
        score_names=tuple(fields["score_names"]),
        dev=tuple(fields["dev"]),
        trials=tuple(_trial_from(trial) for trial in fields["trials"]),
        confusion=None if confusion is None else tuple(map(tuple, confusion)),
        published=tuple((str(size), float(value)) for size, value in fields["published"]),
        notes=tuple(fields["notes"]),
    )


def _trial_from(fields: Mapping[str, Any]) -> TrialResult:
    return _build(TrialResult, fields, seeds=tuple(map(_seed_from, fields["seeds"])))


def _seed_from(fields: Mapping[str, Any]) -> SeedResult:
    curve = tuple(_build(CurvePoint, point) for point in fields["curve"])
    return _build(SeedResult, fields, curve=curve)


def _build(kind: Callable[..., _R], fields: Mapping[str, Any], **converted: Any) -> _R:
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: converted.get(name, fields[name]) for name in names})


def _median(trial: TrialResult, split: str, score: str) -> float:
    return statistics.median(trial.values(split, score))
