"""Probes: what the encoder knows while it is pretrained, on the examples of a task."""

import dataclasses
import math

from roberta_jax.config.checks import one_of, require


@dataclasses.dataclass(slots=True, kw_only=True)
class ProbeConfig:
    """A look at a task every so many steps, beside the evaluation of the masked-LM loss."""

    every_steps: int = 0  # 0: never.
    # linear: a linear model of the mean of the last layer's states, which stay as they are;
    # finetune: a short fine-tuning of a copy of the encoder.
    kind: str = "linear"
    task: str = "sst2"  # A published task; linear takes classification and regression only.
    path: str = ""  # Its files, as `finetune --data`.
    train_examples: int = 4096  # At most, the same ones every time.
    dev_examples: int = 2048
    epochs: float = 3.0  # Of finetune.
    batch_size: int = 32  # Of finetune.
    learning_rate: float = 1e-4  # Of finetune, the peak.

    def validate(self) -> None:
        require(self.every_steps >= 0, "probe.every_steps", self.every_steps, "0 or more")
        one_of(self.kind, "probe.kind", ("linear", "finetune"))
        for name in ("train_examples", "dev_examples", "batch_size"):
            require(getattr(self, name) >= 1, f"probe.{name}", getattr(self, name), "at least 1")
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"probe.{name}", value, "positive")
        require(
            not self.every_steps or bool(self.path),
            "probe.path",
            '""',
            "the folder of the task's files where probe.every_steps is set",
        )
