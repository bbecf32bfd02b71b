"""What is learnt beside the masked tokens."""

import dataclasses

from roberta_jax.config.checks import require


@dataclasses.dataclass(slots=True, kw_only=True)
class ObjectiveConfig:
    """Terms of the loss; masks have a section of their own, and so has the next-sentence head."""

    # Weight of (log of the softmax's denominator)^2, which keeps the logits small (PaLM, section 5,
    # has 1e-4); 0: none, as in BERT and RoBERTa.
    z_loss_weight: float = 0.0

    def validate(self) -> None:
        require(
            0 <= self.z_loss_weight < 1, "objective.z_loss_weight", self.z_loss_weight, "in [0, 1)"
        )
