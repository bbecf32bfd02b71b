"""The splits of a task as rows, and their batches on the devices."""

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.finetune.model_folder import RowLimits
from roberta_jax.parallel.mesh import BATCH_AXES
from roberta_jax.tasks.batches import Batches, TaskBatch, assemble, row_lengths
from roberta_jax.tasks.examples import Example
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.task import Task
from roberta_jax.wording import count_of


@dataclasses.dataclass(frozen=True)
class SplitRows:
    """A split: its examples, and the rows that the model reads of them."""

    name: str
    examples: Sequence[Example]
    rows: TaskRows


def share_of(examples: Sequence[Example], share: float, *, seed: int) -> list[Example]:
    """The first `share` of the examples in an order drawn by `seed`, at least one.

    A smaller share is part of a larger one.
    """
    order = np.random.Generator(np.random.Philox(key=[seed, 1])).permutation(len(examples))
    count = max(1, round(share * len(examples)))
    return [examples[number] for number in sorted(order[:count])]


def cut_texts(task: Task, rows: TaskRows, limits: RowLimits) -> str:
    """How many texts of which kind were too long, and for what; "" where none was.

    It ends without a full stop, before what is done about it.
    """
    if not rows.num_cut:
        return ""
    total, most = len(rows.ids), f"{limits.max_length:,}"
    what: tuple[str, ...] = ("text",)
    if task.kind == "span":
        total = rows.windows[-1].example + 1  # Every question has a window.
        what, most = ("question",), f"{limits.max_question_tokens:,}"
    elif task.kind == "choice":
        what = ("option with its passage", "options with their passages")
        most = f"{limits.max_option_tokens:,} of question and option, in all {limits.max_length:,}"
    return (
        f"{rows.num_cut:,} of {count_of(total, *what)} {'is' if rows.num_cut == 1 else 'are'} too "
        f"long for this model, which reads at most {most} tokens"
    )


@dataclasses.dataclass(frozen=True)
class BatchMaker:
    """Rows → batches on the mesh.

    Attributes:
      mesh: rows are split over its data axis.
      pad_id: fills up short rows.
      token_types: whether the model has them.
      max_length: tokens of the longest shape.
    """

    mesh: Mesh
    pad_id: int
    token_types: bool
    max_length: int

    def assemble(
        self, rows: TaskRows, numbers: np.ndarray, length: int, batch_size: int
    ) -> TaskBatch:
        """`tasks.batches.assemble` for this model."""
        return assemble(
            rows,
            numbers,
            length,
            batch_size=batch_size,
            pad_id=self.pad_id,
            token_types=self.token_types,
        )

    def training(
        self, rows: TaskRows, seeds: Sequence[int], *, batch_size: int, first_step: int
    ) -> Generator[dict[str, jax.Array]]:
        """Batches [S, B, …] from a step on, without end: each seed has an order of its own."""
        lengths = row_lengths(rows)
        orders = [
            Batches(lengths, batch_size=batch_size, max_length=self.max_length, seed=seed)
            for seed in seeds
        ]
        step = first_step
        while True:
            chosen = [order.at(step) for order in orders]
            # One shape for all: side by side, the seeds read rows of the same length.
            length = max(padded for _, padded in chosen)
            batches = [self.assemble(rows, numbers, length, batch_size) for numbers, _ in chosen]
            stacked = {
                name: np.stack([fields[name] for fields in map(_fields, batches)])
                for name in _fields(batches[0])
            }
            yield self._placed(stacked, P(None, BATCH_AXES))
            step += 1

    def placed(self, batch: TaskBatch) -> dict[str, jax.Array]:
        """A batch [B, …] on the mesh."""
        return self._placed(_fields(batch), P(BATCH_AXES))

    def _placed(self, arrays: dict[str, np.ndarray], spec: P) -> dict[str, jax.Array]:
        return jax.device_put(arrays, NamedSharding(self.mesh, spec))


def _fields(batch: TaskBatch) -> dict[str, Any]:
    """Name → array, without what is None."""
    return {
        field.name: value
        for field in dataclasses.fields(batch)
        if (value := getattr(batch, field.name)) is not None
    }
