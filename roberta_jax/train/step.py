"""One update of a pretraining run: masks → encoder → losses → gradient → new state.

The loss is the sum over all predictions of the global batch divided by their number, and the same
of its pairs.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from roberta_jax.config import PretrainConfig
from roberta_jax.data.rows import NextSentence
from roberta_jax.encoder.dropout import row_keys
from roberta_jax.encoder.model import Params, bind
from roberta_jax.objective.masking import masking_key
from roberta_jax.optim.optimizer import Optimizer
from roberta_jax.optim.schedule import Schedule
from roberta_jax.train.inputs import BatchSums, InputMaker, Inputs, sums_of
from roberta_jax.train.state import TrainState
from roberta_jax.train.update import StepMetrics, make_update


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """The masked-LM loss, and that of the next sentences where they are predicted."""

    config: PretrainConfig
    maker: InputMaker

    def inputs(self, batch: dict[str, jax.Array], keys: jax.Array) -> Inputs:
        """Masks the batch, which has what `InputMaker` takes."""
        return self.maker(batch, masking_key(self.config.seed), keys)

    def counts(self, inputs: Inputs) -> tuple[jax.Array, jax.Array]:
        """Predictions and pairs of the whole batch: a mean of means would be biased."""
        predictions = jnp.maximum(inputs.masked.weights.sum(), 1.0)  # Never 0 / 0.
        pairs = jnp.ones(())
        if inputs.labels is not None:
            pairs = jnp.maximum((inputs.labels != NextSentence.NONE).sum().astype(jnp.float32), 1.0)
        return predictions, pairs

    def loss(
        self, params: Params, inputs: Inputs, counts: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, BatchSums]:
        """The mean over predictions, and that over pairs added to it."""
        weight = self.config.objective.z_loss_weight
        sums = sums_of(bind(self.config.encoder, params), inputs, z_loss=weight > 0)
        loss = sums.predictions.loss
        if weight:
            loss += weight * sums.z_loss
        loss /= counts[0]
        if inputs.labels is not None:
            loss += sums.pairs.loss / counts[1]
        return loss, sums


def make_step(
    config: PretrainConfig,
    maker: InputMaker,
    optimizer: Optimizer,
    rate: Schedule,
    *,
    num_microbatches: int,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, StepMetrics]]:
    """`step(state, batch) -> (state, StepMetrics)`; see `update.make_update`.

    The batch has what `InputMaker` takes.
    """
    update = make_update(
        Pretraining(config, maker),
        optimizer,
        rate,
        average_decay=config.optimizer.average_decay,
        num_microbatches=num_microbatches,
    )

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, StepMetrics]:
        keys = row_keys(config.seed, state.step, batch["tokens"].shape[0])
        return update(state, batch, keys)

    return step
