"""From gradients to updates: the optimizer, and the learning rate over the run."""

import dataclasses
import math

from roberta_jax.config.checks import one_of, require
from roberta_jax.config.duration import Duration

OPTIMIZERS = ("adamw", "lamb")
SCHEDULES = ("linear", "polynomial", "cosine", "inverse_sqrt", "warmup_stable_decay")


@dataclasses.dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW or LAMB; the defaults are RoBERTa base's (paper section 3.1 and table 9)."""

    kind: str = "adamw"  # adamw | lamb: AdamW's update of each layer scaled by a trust ratio.
    peak_learning_rate: float = 6e-4
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    bias_correction: bool = True  # Of the moments, which begin at 0; BERT's code has none.
    weight_decay: float = 0.01
    decay_table: str = "bert"  # bert: not on biases and LayerNorm; fairseq: on every parameter.
    clip_global_norm: float = math.inf  # Of the gradient, before the moments; inf: no clip.
    moments_dtype: str = "float32"  # bfloat16: half the memory, rounded at random (unbiased).
    # Evaluation and export use an exponential average of the weights over about
    # 1 / (1 - average_decay) updates; 0: the weights themselves.
    average_decay: float = 0.0

    def validate(self) -> None:
        one_of(self.kind, "optimizer.kind", OPTIMIZERS)
        require(
            0 < self.peak_learning_rate < math.inf,
            "optimizer.peak_learning_rate",
            self.peak_learning_rate,
            "positive",
        )
        for name in ("beta1", "beta2", "average_decay"):
            require(
                0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "in [0, 1)"
            )
        require(0 < self.epsilon < math.inf, "optimizer.epsilon", self.epsilon, "positive")
        require(
            0 <= self.weight_decay < math.inf,
            "optimizer.weight_decay",
            self.weight_decay,
            "0 or more",
        )
        one_of(self.decay_table, "optimizer.decay_table", ("bert", "fairseq"))
        require(
            self.kind != "lamb" or self.decay_table == "bert",
            "optimizer.decay_table",
            repr(self.decay_table),
            "bert with optimizer.kind=lamb, whose trust ratio is for the parameters that decay: on "
            "biases, which begin as 0, it would all but stop them",
        )
        require(
            self.clip_global_norm > 0,
            "optimizer.clip_global_norm",
            self.clip_global_norm,
            "positive, or inf",
        )
        one_of(self.moments_dtype, "optimizer.moments_dtype", ("float32", "bfloat16"))


@dataclasses.dataclass(slots=True, kw_only=True)
class ScheduleConfig:
    """The learning rate: up to the peak during `warmup`, then down as `kind` says."""

    kind: str = "linear"  # linear | polynomial | cosine | inverse_sqrt | warmup_stable_decay
    warmup: str = "24000 steps"  # Steps, tokens, epochs or % of the run.
    # Where the decay begins to count: warmup (its end, as fairseq has it) or start (step 0, as
    # Google's and NVIDIA's code: the rate drops where the warm-up ends).
    decay_from: str = "warmup"
    final_share: float = 0.0  # The rate at the end, as a share of the peak; not of inverse_sqrt.
    power: float = 1.0  # Of polynomial; 0.5 in NVIDIA's LAMB recipe.
    decay: str = "10%"  # Of warmup_stable_decay: how long before the end the rate begins to fall.

    def validate(self) -> None:
        one_of(self.kind, "schedule.kind", SCHEDULES)
        Duration.parse(self.warmup, "schedule.warmup")
        Duration.parse(self.decay, "schedule.decay")
        require(0 <= self.final_share <= 1, "schedule.final_share", self.final_share, "in [0, 1]")
        require(0 < self.power < math.inf, "schedule.power", self.power, "positive")
        one_of(self.decay_from, "schedule.decay_from", ("warmup", "start"))
        polynomial = self.kind in ("linear", "polynomial", "cosine")
        require(
            polynomial or self.decay_from == "warmup",
            "schedule.decay_from",
            self.decay_from,
            f"warmup with schedule.kind={self.kind}",
        )
        require(
            self.kind == "polynomial" or self.power == 1,
            "schedule.power",
            self.power,
            f"1 with schedule.kind={self.kind}; polynomial has a power",
        )
        require(
            self.kind != "inverse_sqrt" or self.final_share == 0,
            "schedule.final_share",
            self.final_share,
            "0 with schedule.kind=inverse_sqrt, which has no end",
        )
