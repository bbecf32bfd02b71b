"""Who works on the parts of a corpus: this machine, or the workers of an Apache Beam pipeline."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Protocol

from roberta_jax.data.beam_runner import work_on_beam
from roberta_jax.data.part_pool import work_here
from roberta_jax.data.part_work import PartWork
from roberta_jax.data.parts import Part
from roberta_jax.errors import UserError

RUNNERS = ("local", "beam")


class Runner(Protocol):
    """Does work on parts; it never changes what is made."""

    def __call__(self, work: PartWork, parts: Sequence[Part], folder: pathlib.Path) -> None:
        """Does `work` on all `parts`, towards `folder`."""


@dataclasses.dataclass(frozen=True, slots=True)
class LocalRunner:
    """Processes of this machine.

    Attributes:
      num_processes: that work at once; 0: one per core.
    """

    num_processes: int = 0

    def __post_init__(self) -> None:
        """Raises UserError for a negative number."""
        if self.num_processes < 0:
            raise UserError(f"num_processes is {self.num_processes}; it must be 0 or more.")

    def __call__(self, work: PartWork, parts: Sequence[Part], folder: pathlib.Path) -> None:
        """As `Runner`."""
        work_here(work, parts, self.num_processes)


@dataclasses.dataclass(frozen=True, slots=True)
class BeamRunner:
    """The workers of a pipeline.

    Attributes:
      options: of Beam, such as "--runner=FlinkRunner"; none runs the pipeline on this machine.
    """

    options: tuple[str, ...] = ()

    def __call__(self, work: PartWork, parts: Sequence[Part], folder: pathlib.Path) -> None:
        """As `Runner`."""
        work_on_beam(work, parts, folder, self.options)
