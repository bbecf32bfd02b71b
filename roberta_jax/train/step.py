"""One update: masks → encoder → losses → gradient → new state, a pure function of (state, batch).

The loss is the sum over all predictions of the global batch divided by their number, and the same
of its pairs. With microbatches, gradients of sums are added and divided once, so that the division
into parts doesn't change the result.
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
from roberta_jax.optim.average import update_average
from roberta_jax.optim.optimizer import Optimizer, apply_updates, global_norm
from roberta_jax.optim.schedule import Schedule
from roberta_jax.parallel.tables import (
    constrain_like_moments,
    constrain_microbatches,
    sum_over_data,
)
from roberta_jax.train.inputs import BatchSums, InputMaker, Inputs, sums_of
from roberta_jax.train.state import TrainState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """What a step reports, as float32 scalars on the device."""

    sums: BatchSums
    gradient_norm: jax.Array
    learning_rate: jax.Array
    applied: jax.Array  # 1, or 0 where the gradient was not finite and the update is left out.


def gradient_of_batch(
    config: PretrainConfig, params: Params, inputs: Inputs, *, num_microbatches: int
) -> tuple[Params, BatchSums]:
    """The gradient of the batch's mean loss, summed over its microbatches.

    Args:
      config: the run.
      params: the weights.
      inputs: the global batch.
      num_microbatches: parts that are computed one after the other.

    Returns:
      The gradient (float32, like params) and the sums of the batch.
    """
    # Those of the *whole* batch: a mean of means would be biased. Never 0 / 0.
    predictions = jnp.maximum(inputs.masked.weights.sum(), 1.0)
    pairs = jnp.ones(())
    if inputs.labels is not None:
        pairs = jnp.maximum((inputs.labels != NextSentence.NONE).sum().astype(jnp.float32), 1.0)

    def loss_of(
        params: Params, part: Inputs, counts: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, BatchSums]:
        weight = config.objective.z_loss_weight
        sums = sums_of(bind(config.encoder, params), part, z_loss=weight > 0)
        loss = sums.masked.loss
        if weight:
            loss += weight * sums.z_loss
        loss /= counts[0]
        if part.labels is not None:
            loss += sums.pairs.loss / counts[1]
        return loss, sums

    gradient_of = jax.grad(loss_of, has_aux=True)
    if num_microbatches == 1:
        return gradient_of(params, inputs, (predictions, pairs))

    def split(x: jax.Array) -> jax.Array:
        # Every microbatch takes rows from every device, so no row moves.
        rows = x.reshape(x.shape[0] // num_microbatches, num_microbatches, *x.shape[1:])
        return jnp.swapaxes(rows, 0, 1)

    def accumulate(
        shared: tuple[Params, tuple[jax.Array, jax.Array]], rows: Inputs
    ) -> tuple[Params, BatchSums]:
        params, counts = shared

        def add(
            total: tuple[Params, BatchSums], part: Inputs
        ) -> tuple[tuple[Params, BatchSums], None]:
            return jax.tree.map(jnp.add, total, gradient_of(params, part, counts)), None

        microbatches = constrain_microbatches(jax.tree.map(split, rows))
        zero = (jax.tree.map(jnp.zeros_like, params), BatchSums.zero())
        return jax.lax.scan(add, zero, microbatches)[0]

    return sum_over_data(accumulate, (params, (predictions, pairs)), inputs)


def make_step(
    config: PretrainConfig,
    maker: InputMaker,
    optimizer: Optimizer,
    rate: Schedule,
    *,
    num_microbatches: int,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, StepMetrics]]:
    """`step(state, batch) -> (state, StepMetrics)`.

    The batch has what `InputMaker` takes. An update whose gradient or loss is not finite is left
    out: everything but the step's number stays as it was.
    """

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, StepMetrics]:
        keys = row_keys(config.seed, state.step, batch["tokens"].shape[0])
        inputs = maker(batch, masking_key(config.seed), keys)
        gradient, sums = gradient_of_batch(
            config, state.params, inputs, num_microbatches=num_microbatches
        )
        gradient = constrain_like_moments(gradient)
        norm, learning_rate = global_norm(gradient), rate(state.step)
        updates, moments = optimizer.update(
            gradient, state.optimizer, state.params, learning_rate=learning_rate
        )
        new = TrainState(
            step=state.step,
            params=apply_updates(state.params, updates),
            optimizer=moments,
            average=state.average,
        )
        if config.optimizer.average_decay:
            average = update_average(
                state.average,
                new.params,
                num_updates=state.step,
                decay=config.optimizer.average_decay,
            )
            new = dataclasses.replace(new, average=average)
        applied = jnp.isfinite(norm) & jnp.isfinite(sums.masked.loss)
        new = jax.tree.map(lambda after, before: jnp.where(applied, after, before), new, state)
        new = dataclasses.replace(new, step=state.step + 1)
        return new, StepMetrics(sums, norm, learning_rate, applied.astype(jnp.float32))

    return step
