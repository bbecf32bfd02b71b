"""One update of any objective: loss → gradient → new state, a pure function of (state, batch).

Losses are sums over all predictions of the global batch divided by their number. With microbatches,
gradients of sums are added and divided once, so that the division into parts doesn't change the
result.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from roberta_jax.encoder.model import Params
from roberta_jax.optim.average import update_average
from roberta_jax.optim.optimizer import Optimizer, apply_updates, global_norm
from roberta_jax.optim.schedule import Schedule
from roberta_jax.parallel.tables import (
    constrain_like_moments,
    constrain_microbatches,
    sum_over_data,
)
from roberta_jax.train.inputs import BatchSums
from roberta_jax.train.state import TrainState


class Objective(Protocol):
    """What is learned. The arrays of its inputs have the rows as their first axis."""

    def inputs(self, batch: dict[str, jax.Array], keys: jax.Array) -> Any:
        """What the model reads and its losses compare with.

        Args:
          batch: global arrays as the loader gives them.
          keys: dropout keys [B] uint32.
        """

    def counts(self, inputs: Any) -> Any:
        """What losses are divided by: numbers of the *whole* batch, at least 1."""

    def loss(self, params: Params, inputs: Any, counts: Any) -> tuple[jax.Array, BatchSums]:
        """The share of some rows in the loss of the batch (float32 scalar), and their sums."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """What a step reports, as float32 scalars on the device."""

    sums: BatchSums
    gradient_norm: jax.Array
    learning_rate: jax.Array
    applied: jax.Array  # 1, or 0 where the gradient was not finite and the update is left out.


def gradient_of(
    objective: Objective, params: Params, inputs: Any, *, num_microbatches: int
) -> tuple[Params, BatchSums]:
    """The gradient of the batch's mean loss, summed over its microbatches.

    Args:
      objective: gives the loss.
      params: the weights.
      inputs: of the global batch.
      num_microbatches: parts that are computed one after the other.

    Returns:
      The gradient (float32, like params) and the sums of the batch.
    """
    counts = objective.counts(inputs)
    gradient = jax.grad(objective.loss, has_aux=True)
    if num_microbatches == 1:
        return gradient(params, inputs, counts)

    def split(x: jax.Array) -> jax.Array:
        # Every microbatch takes rows from every device, so no row moves.
        rows = x.reshape(x.shape[0] // num_microbatches, num_microbatches, *x.shape[1:])
        return jnp.swapaxes(rows, 0, 1)

    def accumulate(shared: tuple[Params, Any], rows: Any) -> tuple[Params, BatchSums]:
        params, counts = shared

        def add(
            total: tuple[Params, BatchSums], part: Any
        ) -> tuple[tuple[Params, BatchSums], None]:
            return jax.tree.map(jnp.add, total, gradient(params, part, counts)), None

        microbatches = constrain_microbatches(jax.tree.map(split, rows))
        zero = (jax.tree.map(jnp.zeros_like, params), BatchSums.zero())
        return jax.lax.scan(add, zero, microbatches)[0]

    return sum_over_data(accumulate, (params, counts), inputs)


def make_update(
    objective: Objective,
    optimizer: Optimizer,
    rate: Schedule,
    *,
    average_decay: float = 0.0,
    num_microbatches: int = 1,
) -> Callable[
    [TrainState, dict[str, jax.Array], jax.Array],
    tuple[TrainState, StepMetrics],
]:
    """`update(state, batch, keys) -> (state, StepMetrics)`.

    The batch is what the objective takes, and keys are its dropout keys [B]. An update whose
    gradient or loss is not finite is left out: everything but the step's number stays as it was.
    """

    def update(
        state: TrainState, batch: dict[str, jax.Array], keys: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
        inputs = objective.inputs(batch, keys)
        gradient, sums = gradient_of(
            objective, state.params, inputs, num_microbatches=num_microbatches
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
        if average_decay:
            average = update_average(
                state.average, new.params, num_updates=state.step, decay=average_decay
            )
            new = dataclasses.replace(new, average=average)
        applied = jnp.isfinite(norm) & jnp.isfinite(sums.predictions.loss)
        new = jax.tree.map(lambda after, before: jnp.where(applied, after, before), new, state)
        new = dataclasses.replace(new, step=state.step + 1)
        return new, StepMetrics(sums, norm, learning_rate, applied.astype(jnp.float32))

    return update
