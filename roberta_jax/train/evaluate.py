"""Losses on the validation rows, with the same masks at every call."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import EncoderConfig
from roberta_jax.data.loader import Batch, validation_batches
from roberta_jax.data.mixture import RowSource
from roberta_jax.data.rows import NextSentence
from roberta_jax.encoder.model import Params, bind
from roberta_jax.parallel.placement import place, rows_here
from roberta_jax.train.inputs import BatchSums, InputMaker, sums_of

# The masks don't depend on the run's seed, so that runs can be compared.
_EVALUATION_SEED = 20190726


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over all predictions, and over all pairs of segments."""

    loss_nats: float  # Of masked tokens; NaN where there was no prediction.
    masked_accuracy: float
    num_predictions: int
    next_sentence_loss_nats: float = math.nan  # NaN where next sentences are not predicted.
    next_sentence_accuracy: float = math.nan

    @property
    def perplexity(self) -> float:
        """Exp of the loss; inf where that overflows."""
        return perplexity(self.loss_nats)

    @classmethod
    def of(cls, sums: BatchSums) -> "Evaluation":
        """From sums (on the host)."""
        masked, pairs = sums.predictions, sums.pairs
        return cls(
            mean(masked.loss, masked.count),
            mean(masked.correct, masked.count),
            round(float(masked.count)),
            mean(pairs.loss, pairs.count),
            mean(pairs.correct, pairs.count),
        )

    def entry(self) -> dict[str, float | int]:
        """What a line of the metrics record has of it."""
        values: dict[str, float | int] = {
            "num_predictions": self.num_predictions,
            "loss_nats": self.loss_nats,
            "perplexity": self.perplexity,
            "masked_accuracy": self.masked_accuracy,
        }
        if not math.isnan(self.next_sentence_loss_nats):
            values["next_sentence_loss_nats"] = self.next_sentence_loss_nats
            values["next_sentence_accuracy"] = self.next_sentence_accuracy
        return values

    def text(self) -> str:
        """What is said of it."""
        pairs = ""
        if not math.isnan(self.next_sentence_accuracy):
            pairs = f", next sentence {self.next_sentence_accuracy:.1%}"
        return (
            f"validation loss {self.loss_nats:.4f} nats, perplexity {self.perplexity:,.2f}, "
            f"accuracy {self.masked_accuracy:.1%}{pairs}"
        )


def mean(total: Any, count: Any) -> float:
    """The quotient as a float; NaN for none."""
    return float(total) / float(count) if float(count) else math.nan


def perplexity(loss_nats: float) -> float:
    """Exp of a loss in nats; inf where that overflows or the loss is not a number."""
    return math.exp(loss_nats) if loss_nats < 700 else math.inf


@dataclasses.dataclass(frozen=True)
class _WeightedBatch:
    """A loader's batch with a weight for each row, as it is placed on the mesh."""

    tokens: Any
    index: Any
    epoch: Any
    labels: Any
    row_weights: Any

    @classmethod
    def of(cls, batch: Batch, row_weights: Any) -> "_WeightedBatch":
        labels = batch.labels
        if labels is not None:  # Rows that only fill up the batch have no pairs.
            labels = np.where(row_weights[:, None] > 0, labels, np.int32(NextSentence.NONE))
        return cls(batch.tokens, batch.index, batch.epoch, labels, row_weights)


def make_evaluator(
    encoder: EncoderConfig, maker: InputMaker, mesh: Mesh
) -> Callable[..., Evaluation]:
    """A function (params, rows, *, batch_size, max_rows) → Evaluation; call it under the mesh.

    It reads at most `max_rows` rows, evenly spaced, in batches of `batch_size`, which is a multiple
    of the devices over which a batch is split. It is compiled once for every shape of a batch.
    """

    # Whole on every device, so that each process can read it.
    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def sums_of_batch(params: Params, batch: dict[str, jax.Array]) -> BatchSums:
        inputs = maker(batch, jax.random.key(_EVALUATION_SEED))
        weights = inputs.masked.weights * batch["row_weights"][:, None]
        masked = dataclasses.replace(inputs.masked, weights=weights)
        return sums_of(bind(encoder, params), dataclasses.replace(inputs, masked=masked))

    def evaluate(params: Params, rows: RowSource, *, batch_size: int, max_rows: int) -> Evaluation:
        total = None
        for batch, row_weights in validation_batches(
            rows,
            batch_size=batch_size,
            max_rows=max_rows,
            labels=maker.next_sentence,
            rows=rows_here(mesh, batch_size),
        ):
            sums = sums_of_batch(params, place(_WeightedBatch.of(batch, row_weights), mesh))
            total = sums if total is None else total + sums
        assert total is not None, "an empty validation split is refused before"
        return Evaluation.of(jax.device_get(total))

    return evaluate
