"""What the trials of a task share, what differs between them, and what comes of one."""

import dataclasses
import functools
import pathlib

from jax.sharding import Mesh

from roberta_jax.config import FinetuneConfig
from roberta_jax.finetune.fingerprint import rows_fingerprint, weights_fingerprint
from roberta_jax.finetune.model_folder import RowLimits
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.programs import SharedPrograms
from roberta_jax.finetune.rows import BatchMaker, SplitRows
from roberta_jax.finetune.source import StartingEncoder
from roberta_jax.tasks.results import SeedResult
from roberta_jax.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """What all trials of a task share."""

    task: Task
    config: FinetuneConfig
    start: StartingEncoder
    train: SplitRows
    dev: tuple[SplitRows, ...]
    limits: RowLimits
    columns: dict[str, str]
    mesh: Mesh
    objective: TaskObjective
    maker: BatchMaker

    @functools.cached_property
    def content(self) -> dict[str, str]:
        """Fingerprints of what is learned from, and of what learning begins with."""
        return {
            "rows": rows_fingerprint((self.train, *self.dev)),
            "weights": weights_fingerprint(self.start.params),
        }

    @functools.cached_property
    def programs(self) -> SharedPrograms:
        """Compiled for the trials one after the other, which share what they can."""
        return SharedPrograms(
            self.objective,
            self.maker,
            self.start.params,
            optimizer=self.config.optimizer,
            schedule=self.config.schedule,
        )


@dataclasses.dataclass(frozen=True)
class Trial:
    """What differs between them."""

    learning_rate: float
    batch_size: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        first, last = self.seeds[0], self.seeds[-1]
        seeds = f"seed{first}" if first == last else f"seeds{first}-{last}"
        return f"rate{self.learning_rate:g}-batch{self.batch_size}-{seeds}"


@dataclasses.dataclass(frozen=True)
class TrialOutcome:
    """A complete trial.

    Attributes:
      trial: which one.
      seeds: the results, in the order of its seeds.
      confusions: by seed, of the best weights on the first dev split; None without classes.
      folder: that of the model of the best seed.
      notes: what a reader of the figures must know, a sentence each.
    """

    trial: Trial
    seeds: tuple[SeedResult, ...]
    confusions: tuple[list[list[int]] | None, ...]
    folder: pathlib.Path
    notes: tuple[str, ...] = ()
