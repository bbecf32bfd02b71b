"""What a model, or several seeds of it, say of the rows of a split; and their scores."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.encoder.model import Params
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.rows import BatchMaker, SplitRows
from roberta_jax.finetune.state import over_seeds
from roberta_jax.parallel.mesh import num_batch_shards
from roberta_jax.tasks.batches import evaluation_batches, row_lengths
from roberta_jax.tasks.examples import QuestionExample
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.predictions import Outputs, Predictions, decide
from roberta_jax.tasks.results_table import score_title
from roberta_jax.tasks.scores import score
from roberta_jax.tasks.squad_scores import choose_threshold
from roberta_jax.tasks.task import Task

TOKENS_PER_BATCH = 4096  # Of one device and one seed, about.

# (weights with the seeds as first axis, rows) → outputs and mean loss (NaN without labels) by seed.
Predictor = Callable[[Params, TaskRows], tuple[list[Outputs], list[float]]]


def make_predictor(objective: TaskObjective, maker: BatchMaker, num_seeds: int) -> Predictor:
    """Nothing is dropped; compiled once for every shape of a batch."""

    def of_seed(params: Params, batch: dict[str, jax.Array]) -> Any:
        inputs = objective.inputs(batch, None)
        scores, answerable = objective.outputs(params, inputs)
        sums = None
        if "targets" in batch:
            sums = objective.sums(scores, answerable, inputs).predictions
        return scores, answerable, sums

    @jax.jit
    def run(params: Params, batch: dict[str, jax.Array]) -> Any:
        repeated = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_seeds, *leaf.shape)), batch
        )
        found = over_seeds(of_seed, num_seeds)(params, repeated)
        # Whole on every device, so that the host can read it.
        return jax.lax.with_sharding_constraint(found, NamedSharding(maker.mesh, P()))

    def predict(params: Params, rows: TaskRows) -> tuple[list[Outputs], list[float]]:
        collected = [_Collected(len(rows), rows.group_size) for _ in range(num_seeds)]
        for numbers, length, batch_size in evaluation_batches(
            row_lengths(rows), size_at=_size_at(rows, maker), max_length=maker.max_length
        ):
            batch = maker.placed(maker.assemble(rows, numbers, length, batch_size))
            scores, answerable, sums = jax.device_get(run(params, batch))
            for seed, found in enumerate(collected):
                found.add(
                    numbers,
                    rows,
                    scores[seed],
                    None if answerable is None else answerable[seed],
                    None if sums is None else (sums.loss[seed], sums.count[seed]),
                )
        return [found.outputs(objective.kind) for found in collected], [
            found.loss() for found in collected
        ]

    return predict


def _size_at(rows: TaskRows, maker: BatchMaker) -> Callable[[int], int]:
    """How many predictions of these rows are made at once, by padded length.

    More of short rows, but few for few rows: powers of two, so that a model that is asked many
    times has few programs.
    """
    shards = num_batch_shards(maker.mesh)
    needed = 1 << (-(-len(rows) // shards) - 1).bit_length()
    return lambda length: (
        shards * min(max(TOKENS_PER_BATCH // (length * rows.group_size), 1), needed)
    )


class _Collected:
    """What one seed gives, batch by batch."""

    def __init__(self, count: int, group_size: int):
        self._values: list[Any] = [None] * count
        self._answerable: list[Any] = [None] * count
        self._loss = self._count = 0.0
        self._group_size = group_size

    def add(
        self,
        numbers: np.ndarray,
        rows: TaskRows,
        scores: np.ndarray,
        answerable: np.ndarray | None,
        sums: tuple[float, float] | None,
    ) -> None:
        """The first rows of a batch are those with these numbers."""
        for place, number in enumerate(numbers.tolist()):
            value = scores[place]
            if value.ndim == 2:  # Of every token: without padding.
                value = value[: len(rows.ids[number * self._group_size])]
            self._values[number] = value
            if answerable is not None:
                self._answerable[number] = answerable[place]
        if sums is not None:
            self._loss += float(sums[0])
            self._count += float(sums[1])

    def outputs(self, kind: str) -> Outputs:
        """All rows, in their order."""
        answerable = None
        if self._answerable and self._answerable[0] is not None:
            answerable = np.array(self._answerable, np.float32)
        ragged = kind in ("span", "tokens")
        return Outputs(self._values if ragged else np.array(self._values, np.float32), answerable)

    def loss(self) -> float:
        return self._loss / self._count if self._count else math.nan


@dataclasses.dataclass(frozen=True)
class TaskEvaluation:
    """What S seeds reach on the dev splits, at one step.

    Attributes:
      task: what is judged.
      losses: of the first dev split, by seed.
      scores: by seed: split → name → fraction.
      thresholds: by seed, of a task with unanswerable questions; chosen on the first dev split.
      left_out: updates so far that were not finite, by seed; () where they were not counted.
    """

    task: Task
    losses: Sequence[float]
    scores: Sequence[dict[str, dict[str, float]]]
    thresholds: Sequence[float | None]
    left_out: Sequence[int] = ()

    @property
    def loss_nats(self) -> float:
        """The mean over the seeds that have a finite one; NaN without any."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return statistics.fmean(finite) if finite else math.nan

    def entry(self) -> dict[str, Any]:
        """The values of a line of the record: medians over the seeds."""
        medians = {
            f"{split}_{name}": statistics.median(scores[split][name] for scores in self.scores)
            for split in self.task.dev
            for name in self.task.scores
            if name in self.scores[0][split]
        }
        entry = {"loss_nats": self.loss_nats, **medians, "seeds": list(self.scores)}
        if any(self.left_out):
            entry["updates_left_out"] = list(self.left_out)
        return entry

    def text(self) -> str:
        """What is said of it."""
        name, parts = self.task.scores[0], list[str]()
        for split in self.task.dev:
            values = [scores[split][name] for scores in self.scores]
            text = f"{split} {score_title(name)} {100 * statistics.median(values):.1f}"
            if len(values) > 1:
                of = "" if parts else f"median of {len(values)} seeds, "
                text += f" ({of}{100 * min(values):.1f} to {100 * max(values):.1f})"
            parts.append(text)
        return f"{', '.join(parts)}, loss {self.loss_nats:.4f}"


def evaluate_seeds(
    task: Task, splits: Sequence[SplitRows], params: Params, predict: Predictor
) -> tuple[TaskEvaluation, list[list[Predictions]]]:
    """The scores of all seeds on the dev splits, in the order of `task.dev`.

    A seed whose outputs are not all finite has diverged: it says nothing, and its scores are 0.

    Returns:
      The scores, and the predictions by split and seed.
    """
    scores: list[dict[str, dict[str, float]]] = []
    thresholds: list[float | None] = []
    losses: list[float] = []
    all_predictions = []
    for split in splits:
        outputs, split_losses = predict(params, split.rows)
        finite = [_is_finite(output) for output in outputs]
        found = [
            decide(task, split.examples, split.rows, output if known else _zeros(output))
            for output, known in zip(outputs, finite, strict=True)
        ]
        all_predictions.append(found)
        if split is splits[0]:
            losses, scores = split_losses, [{} for _ in found]
            thresholds = [_threshold(task, split, each) for each in found]
        for seed, each in enumerate(found):
            values = score(task, split.examples, each, no_answer_threshold=thresholds[seed])
            scores[seed][split.name] = values if finite[seed] else dict.fromkeys(values, 0.0)
    return TaskEvaluation(task, losses, scores, thresholds), all_predictions


def _is_finite(outputs: Outputs) -> bool:
    answerable = () if outputs.answerable is None else (outputs.answerable,)
    return all(np.isfinite(value).all() for value in (*outputs.values, *answerable))


def _zeros(outputs: Outputs) -> Outputs:
    """Of the same shapes."""
    values = outputs.values
    return Outputs(
        np.zeros_like(values) if isinstance(values, np.ndarray) else [*map(np.zeros_like, values)],
        None if outputs.answerable is None else np.zeros_like(outputs.answerable),
    )


def _threshold(task: Task, split: SplitRows, predictions: Predictions) -> float | None:
    if not task.unanswerable:
        return None
    questions = cast(Sequence[QuestionExample], split.examples)
    texts = cast(Sequence[str], predictions.values)
    assert predictions.no_answer is not None
    return choose_threshold(questions, texts, predictions.no_answer)
