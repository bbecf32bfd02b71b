"""Devices, length and rhythm of a run, its phases, and what is done when it diverges."""

import dataclasses
import math

from roberta_jax.config.checks import one_of, require
from roberta_jax.config.duration import Duration


@dataclasses.dataclass(slots=True, kw_only=True)
class MeshConfig:
    """Devices per axis; one axis may be -1 and takes what is left."""

    data: int = -1  # Rows, and with them the moments of the optimizer.
    fsdp: int = 1  # Rows, weights and moments.
    tensor: int = 1  # Heads, the inside of the MLP, the vocabulary.
    context: int = 1  # Tokens of a row.
    # What a fast network joins, of which the data axis alone leaves: "slice" of TPUs or of GPUs,
    # or "process"; "auto": slices of TPUs, and no bounds on other devices.
    granule: str = "auto"

    def validate(self) -> None:
        sizes = (self.data, self.fsdp, self.tensor, self.context)
        require(
            all(size >= 1 or size == -1 for size in sizes) and sizes.count(-1) <= 1,
            "mesh.data, mesh.fsdp, mesh.tensor, mesh.context",
            sizes,
            "positive, with at most one -1",
        )
        one_of(self.granule, "mesh.granule", ("auto", "slice", "process"))


@dataclasses.dataclass(slots=True, kw_only=True)
class TrainConfig:
    """Length and rhythm of the run."""

    duration: str = "500000 steps"  # Steps, tokens or epochs; "": the sum of the phases.
    batch_size: int = 8192  # Rows per update, over all devices and hosts.
    # Parts of a batch whose gradients are added before the update; 0: as few as fit the devices.
    num_microbatches: int = 0
    log_every_steps: int = 50
    evaluate_every_steps: int = 1000  # 0: never during the run.
    evaluation_rows: int = 4096  # Validation rows of one evaluation, at most.

    def validate(self) -> None:
        if self.duration:
            require(
                Duration.parse(self.duration, "train.duration").unit != "%",
                "train.duration",
                repr(self.duration),
                "in steps, tokens or epochs: there is nothing of which it could be a share",
            )
        for name in ("batch_size", "log_every_steps", "evaluation_rows"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        for name in ("num_microbatches", "evaluate_every_steps"):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "0 or more")
        _check_division(self.batch_size, self.num_microbatches, "train.")


@dataclasses.dataclass(slots=True, kw_only=True)
class PhaseConfig:
    """A part of a run with batches of its own; what is 0 or "" is as in the rest of the config."""

    duration: str = ""  # Steps, tokens, epochs, or % of the run; must be given.
    path: str = ""  # Dataset, as data.path; another length of the rows needs another one.
    sequence_length: int = 0
    batch_size: int = 0
    num_microbatches: int = 0
    # A schedule of its own begins, with this peak and warm-up, and ends where the next one begins;
    # 0: the schedule that is under way goes on.
    peak_learning_rate: float = 0.0
    warmup: str = ""  # Of that schedule; its % are of the phases that it covers.

    def validate(self, number: int) -> None:
        name = f"phases[{number}]."
        Duration.parse(self.duration, f"{name}duration")
        for field in ("sequence_length", "batch_size", "num_microbatches", "peak_learning_rate"):
            value = getattr(self, field)
            require(0 <= value < math.inf, f"{name}{field}", value, "0 or more")
        require(
            self.sequence_length == 0 or self.sequence_length >= 8,
            f"{name}sequence_length",
            self.sequence_length,
            "at least 8 tokens, or 0 for data.sequence_length",
        )
        require(
            bool(self.warmup) == (self.peak_learning_rate > 0),
            f"{name}peak_learning_rate and {name}warmup",
            (self.peak_learning_rate, self.warmup),
            "given together, which begins a new schedule, or not at all",
        )
        if self.warmup:
            Duration.parse(self.warmup, f"{name}warmup")
        _check_division(self.batch_size, self.num_microbatches, name)


def _check_division(batch_size: int, num_microbatches: int, prefix: str) -> None:
    require(
        not (batch_size and num_microbatches) or batch_size % num_microbatches == 0,
        f"{prefix}num_microbatches",
        num_microbatches,
        f"a divisor of {prefix}batch_size={batch_size}, or 0 to let it be chosen",
    )


@dataclasses.dataclass(slots=True, kw_only=True)
class DivergenceConfig:
    """What happens when the loss or its gradient goes astray."""

    # An update whose gradient is not finite is left out; more of them in a row stop the run.
    max_skips_in_a_row: int = 10
    # A spike is a loss so many robust standard deviations (1.4826 x the median distance from the
    # median) above the median of the steps before; inf: none is looked for.
    spike_z_score: float = 10.0
    spike_window_steps: int = 100  # Steps before, half of which at least are needed.
    # At a spike, go back to the checkpoint before it and leave out the rows since; so often at
    # most. 0: spikes are only recorded.
    max_rollbacks: int = 0

    def validate(self) -> None:
        for name in ("max_skips_in_a_row", "max_rollbacks"):
            require(
                getattr(self, name) >= 0, f"divergence.{name}", getattr(self, name), "0 or more"
            )
        require(self.spike_z_score > 0, "divergence.spike_z_score", self.spike_z_score, "positive")
        require(
            self.spike_window_steps >= 8,
            "divergence.spike_window_steps",
            self.spike_window_steps,
            "at least 8",
        )
        require(
            self.max_rollbacks == 0 or math.isfinite(self.spike_z_score),
            "divergence.max_rollbacks",
            self.max_rollbacks,
            "0 where divergence.spike_z_score=inf looks for no spikes",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    """When a checkpoint is written and which ones stay."""

    save_every_steps: int = 1000
    keep_last: int = 2
    keep_every_steps: int = 0  # Also keep every step divisible by this; 0: none.
    keep_best: int = 1  # Also keep the ones with the lowest evaluation loss; 0: none.

    def validate(self) -> None:
        for name in ("save_every_steps", "keep_last"):
            require(
                getattr(self, name) >= 1, f"checkpoint.{name}", getattr(self, name), "at least 1"
            )
        for name in ("keep_every_steps", "keep_best"):
            require(
                getattr(self, name) >= 0, f"checkpoint.{name}", getattr(self, name), "0 or more"
            )
