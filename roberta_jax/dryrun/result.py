"""What a dry run finds, as plain data that goes from process to process as JSON."""

import dataclasses
from typing import Any

from roberta_jax.dryrun.traffic import Collective


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What stays on a device from step to step, in bytes.

    Attributes:
      parameters: the weights.
      optimizer: its moments and its counter.
      average: of the weights, where one is kept.
      gradient: as large as the weights; it lives during a step only.
      batch: the rows of a step.
    """

    parameters: int
    optimizer: int
    average: int
    gradient: int
    batch: int

    @property
    def kept(self) -> int:
        """What a step is given."""
        return self.parameters + self.optimizer + self.average + self.batch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A step that could be compiled.

    Attributes:
      peak_bytes: everything at the same time: arguments, temporaries, results, the program.
      temporary_bytes: gradient, activations and XLA's working space.
      memory_traffic_bytes: read from and written to memory in a step.
      collectives: by kind.
    """

    peak_bytes: int
    temporary_bytes: int
    memory_traffic_bytes: int
    collectives: dict[str, Collective]

    @property
    def sent_bytes(self) -> int:
        """To other devices in a step."""
        return sum(each.sent_bytes for each in self.collectives.values())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """The step of one phase.

    Attributes:
      num_steps: updates of the phase.
      batch_size: rows of an update.
      sequence_length: tokens per row.
      num_microbatches: parts of a batch.
      microbatches_field: of the config, that sets them for this phase.
      model_flops: of a step on all devices, by `train.hardware.step_flops`.
      computed_flops: of its matrix products with what is computed twice, on all devices.
      state: what stays on a device.
      compiled: None where it does not fit.
      needed_bytes: what would be needed then: as the compiler says, or more than this.
      state_is_too_large: what is kept from step to step does not fit, so nothing was compiled.
      seconds: of compiling.
    """

    num_steps: int
    batch_size: int
    sequence_length: int
    num_microbatches: int
    microbatches_field: str
    model_flops: float
    computed_flops: float
    state: State
    compiled: Compiled | None
    needed_bytes: int
    state_is_too_large: bool
    seconds: float

    def peak_bytes(self) -> int:
        """What a device must have."""
        return self.needed_bytes if self.compiled is None else self.compiled.peak_bytes

    def fits(self, memory_bytes: float) -> bool:
        """Whether a device of such a memory can run it."""
        return self.compiled is not None and self.compiled.peak_bytes <= memory_bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A config on a topology: all its phases.

    Attributes:
      mesh: devices of the axes data, fsdp, context and tensor.
      num_params: weights of the model.
      rematerialization: what the backward pass computes again.
      assumed_vocabulary: without a dataset, RoBERTa's is taken.
      phases: in their order.
    """

    mesh: dict[str, int]
    num_params: int
    rematerialization: str
    assumed_vocabulary: bool
    phases: list[PhaseResult]

    def fits(self, memory_bytes: float) -> bool:
        """Whether all phases do."""
        return all(phase.fits(memory_bytes) for phase in self.phases)


def result_from(values: dict[str, Any]) -> Result:
    """The inverse of `dataclasses.asdict`."""
    return Result(**{**values, "phases": [_phase(phase) for phase in values["phases"]]})


def _phase(values: dict[str, Any]) -> PhaseResult:
    compiled = values["compiled"]
    if compiled is not None:
        kinds = compiled["collectives"].items()
        collectives = {kind: Collective(**numbers) for kind, numbers in kinds}
        compiled = Compiled(**{**compiled, "collectives": collectives})
    return PhaseResult(**{**values, "state": State(**values["state"]), "compiled": compiled})
