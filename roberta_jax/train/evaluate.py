"""Masked-LM loss on the validation rows, with the same masks at every call."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from roberta_jax.config import PretrainConfig
from roberta_jax.data.loader import Batch, validation_batches
from roberta_jax.data.mixture import RowSource
from roberta_jax.encoder.model import Params, bind
from roberta_jax.objective.loss import LossSums, masked_lm_sums
from roberta_jax.objective.masking import Masker
from roberta_jax.parallel.placement import place

# The masks don't depend on the run's seed, so that runs can be compared.
_EVALUATION_SEED = 20190726


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over all predictions."""

    loss_nats: float
    masked_accuracy: float
    num_predictions: int

    @property
    def perplexity(self) -> float:
        """Exp of the loss; inf where that overflows."""
        return perplexity(self.loss_nats)

    @classmethod
    def of(cls, loss: float, correct: float, count: float) -> "Evaluation":
        """From sums."""
        return cls(loss / max(count, 1.0), correct / max(count, 1.0), round(count))


def perplexity(loss_nats: float) -> float:
    """Exp of a loss in nats; inf where that overflows or the loss is not a number."""
    return math.exp(loss_nats) if loss_nats < 700 else math.inf


@dataclasses.dataclass(frozen=True)
class _WeightedBatch:
    """A loader's batch with a weight for each row, as it is placed on the mesh."""

    tokens: Any
    index: Any
    epoch: Any
    row_weights: Any

    @classmethod
    def of(cls, batch: Batch, row_weights: Any) -> "_WeightedBatch":
        return cls(batch.tokens, batch.index, batch.epoch, row_weights)


def make_evaluator(
    config: PretrainConfig, masker: Masker, mesh: Mesh
) -> Callable[[Params, RowSource], Evaluation]:
    """A function (params, dataset) → Evaluation, compiled once; call it under `jax.set_mesh`.

    It reads at most `train.evaluation_rows` rows, evenly spaced, in batches as large as a
    microbatch.
    """

    @jax.jit
    def sums_of(params: Params, batch: dict[str, jax.Array]) -> LossSums:
        key = jax.random.key(_EVALUATION_SEED)
        masked = masker(batch["tokens"], batch["index"], batch["epoch"], key)
        model = bind(config.encoder, params)
        logits = model(masked.tokens, masked.positions, segments=masked.segments)
        weights = masked.weights * batch["row_weights"][:, None]
        return masked_lm_sums(logits, masked.targets, weights)

    def evaluate(params: Params, dataset: RowSource) -> Evaluation:
        total = None
        for batch, row_weights in validation_batches(
            dataset,
            batch_size=config.train.batch_size // config.train.num_microbatches,
            max_rows=config.train.evaluation_rows,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ):
            sums = sums_of(params, place(_WeightedBatch.of(batch, row_weights), mesh))
            total = sums if total is None else total + sums
        assert total is not None, "an empty validation split is refused before"
        total = jax.device_get(total)
        return Evaluation.of(float(total.loss), float(total.correct), float(total.count))

    return evaluate
