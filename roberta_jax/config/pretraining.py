"""All sections of a pretraining run together."""

import dataclasses

from roberta_jax.config.checks import check_types, require
from roberta_jax.config.encoder import EncoderConfig
from roberta_jax.config.inputs import DataConfig, MaskingConfig
from roberta_jax.config.objective import ObjectiveConfig
from roberta_jax.config.optimization import OptimizerConfig, ScheduleConfig
from roberta_jax.config.probing import ProbeConfig
from roberta_jax.config.training import (
    CheckpointConfig,
    DivergenceConfig,
    MeshConfig,
    PhaseConfig,
    TrainConfig,
)


@dataclasses.dataclass(slots=True, kw_only=True)
class PretrainConfig:
    """A whole pretraining run."""

    seed: int = 0  # Data order, masks, initial weights and dropout are functions of it.
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    phases: tuple[PhaseConfig, ...] = ()  # One after the other; none: the whole run is one.
    divergence: DivergenceConfig = dataclasses.field(default_factory=DivergenceConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    probe: ProbeConfig = dataclasses.field(default_factory=ProbeConfig)

    def sequence_lengths(self) -> tuple[int, ...]:
        """Tokens per row of every phase."""
        return tuple(
            phase.sequence_length or self.data.sequence_length
            for phase in self.phases or (PhaseConfig(),)
        )

    def paths(self) -> tuple[str, ...]:
        """The dataset of every phase."""
        return tuple(phase.path or self.data.path for phase in self.phases or (PhaseConfig(),))

    def main_path(self) -> str:
        """The dataset of the last phase, whose rows the model is made for."""
        return self.paths()[-1]

    def validate(self) -> None:
        """Raises UserError when a value, or two values together, cannot be used.

        How long phases and warm-up are in steps, and whether they add up, depends on the data:
        `train.plan` checks it.
        """
        check_types(self)
        require(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2^31)")
        for section in (
            self.data,
            self.encoder,
            self.masking,
            self.objective,
            self.optimizer,
            self.schedule,
            self.mesh,
            self.train,
            self.divergence,
            self.checkpoint,
            self.probe,
        ):
            section.validate()
        for number, phase in enumerate(self.phases):
            phase.validate(number)
        require(
            bool(self.train.duration) or bool(self.phases),
            "train.duration",
            '""',
            'given, such as "500000 steps", in a run without phases',
        )
        for number, length in enumerate(self.sequence_lengths()):
            own = bool(self.phases) and self.phases[number].sequence_length > 0
            require(
                length <= self.encoder.max_positions,
                f"phases[{number}].sequence_length" if own else "data.sequence_length",
                length,
                f"at most encoder.max_positions={self.encoder.max_positions}",
            )
        longest = max(self.sequence_lengths())
        needed = self.masking.most_predictions(longest)
        require(
            self.masking.num_slots == 0 or needed <= self.masking.num_slots <= longest,
            "masking.num_slots",
            self.masking.num_slots,
            f"0, or from {needed} (masking.rate={self.masking.rate} of {longest} tokens) to "
            f"{longest}: every prediction needs a slot, and every slot a token",
        )
