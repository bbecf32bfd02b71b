"""A loader's batch → what the model reads and what its losses compare with, on the device."""

import dataclasses

import jax
import jax.numpy as jnp

from roberta_jax.config import PretrainConfig
from roberta_jax.data.mixture import RowSource
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.encoder.model import MaskedLanguageModel
from roberta_jax.objective.loss import LossSums, masked_lm_sums, z_loss_sum
from roberta_jax.objective.masking import MaskedBatch, Masker
from roberta_jax.objective.next_sentence import (
    NextSentenceSums,
    example_starts,
    next_sentence_sums,
    pair_token_types,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """A batch of the model. Every array has the rows as its first axis."""

    masked: MaskedBatch
    token_types: jax.Array | None = None  # [B, T] int32; None: all 0.
    starts: jax.Array | None = None  # [B, E] int32, places of `<s>`; None: no next sentences.
    labels: jax.Array | None = None  # [B, E] int32, values of `NextSentence`.
    keys: jax.Array | None = None  # Dropout keys [B] uint32; None: no dropout.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BatchSums:
    """Sums over the rows of a batch; add them, then divide once."""

    predictions: LossSums
    pairs: NextSentenceSums  # Over pairs of segments.
    z_loss: jax.Array  # Over predictions, nats^2; 0 where it is not part of the loss.

    def __add__(self, other: "BatchSums") -> "BatchSums":
        """Elementwise."""
        return jax.tree.map(jnp.add, self, other)

    @classmethod
    def zero(cls) -> "BatchSums":
        """Of no rows."""
        zero = jnp.zeros(())
        return cls(LossSums(zero, zero, zero), NextSentenceSums(zero, zero, zero), zero)


@dataclasses.dataclass(frozen=True)
class InputMaker:
    """Makes inputs of batches.

    Attributes:
      masker: draws the masks.
      bos_id: of `<s>`, with which every example of a row begins.
      eos_id: of `</s>`.
      next_sentence: whether next sentences are predicted.
      token_types: whether the segments of a pair have different token types.
    """

    masker: Masker
    bos_id: int
    eos_id: int
    next_sentence: bool
    token_types: bool

    @classmethod
    def of(cls, config: PretrainConfig, tokenizer: Tokenizer, rows: RowSource) -> "InputMaker":
        """For a run on such rows; all its datasets have the same tokenizer and kind of rows."""
        pairs = rows.manifest.label_slots > 0
        return cls(
            Masker.of(config.masking, tokenizer, attention=config.data.attention),
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            next_sentence=config.encoder.next_sentence_head and pairs,
            token_types=config.encoder.num_token_types > 1 and pairs,
        )

    def __call__(
        self, batch: dict[str, jax.Array], key: jax.Array, keys: jax.Array | None = None
    ) -> Inputs:
        """Masks a batch.

        Args:
          batch: tokens [B, T] int32, index [B] uint32, epoch [B] uint32, and where next sentences
            are predicted labels [B, E] int32.
          key: of the masks.
          keys: dropout keys [B] uint32, or None.
        """
        tokens = batch["tokens"]
        inputs = Inputs(self.masker(tokens, batch["index"], batch["epoch"], key), keys=keys)
        if self.token_types:
            types = pair_token_types(
                tokens, start_id=self.bos_id, eos_id=self.eos_id, pad_id=self.masker.pad_id
            )
            inputs = dataclasses.replace(inputs, token_types=types)
        if self.next_sentence:
            labels = batch["labels"]
            starts = example_starts(tokens, start_id=self.bos_id, num_examples=labels.shape[1])
            inputs = dataclasses.replace(inputs, starts=starts, labels=labels)
        return inputs


def sums_of(model: MaskedLanguageModel, inputs: Inputs, *, z_loss: bool = False) -> BatchSums:
    """The losses of a model on inputs, in a trace; the z-loss only if it is asked for."""
    masked, zero = inputs.masked, BatchSums.zero()
    pairs = zero.pairs
    if inputs.starts is None or inputs.labels is None:
        logits = model(
            masked.tokens,
            masked.positions,
            inputs.keys,
            segments=masked.segments,
            token_types=inputs.token_types,
        )
    else:
        logits, pair_logits = model.outputs(
            masked.tokens,
            masked.positions,
            inputs.keys,
            segments=masked.segments,
            token_types=inputs.token_types,
            starts=inputs.starts,
        )
        pairs = next_sentence_sums(pair_logits, inputs.labels)
    sums = masked_lm_sums(logits, masked.targets, masked.weights)
    return BatchSums(sums, pairs, z_loss_sum(logits, masked.weights) if z_loss else zero.z_loss)
