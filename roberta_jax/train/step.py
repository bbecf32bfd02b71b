"""One update: masks → encoder → loss → gradient → new state, jitted as a whole.

The loss is the sum over all predictions of the global batch divided by their number. With
microbatches, gradients of sums are added and divided once, so that the division into parts doesn't
change the result.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import PretrainConfig
from roberta_jax.encoder.dropout import row_keys
from roberta_jax.encoder.model import Params, bind
from roberta_jax.objective.loss import LossSums, masked_lm_sums
from roberta_jax.objective.masking import MaskedBatch, Masker, masking_key
from roberta_jax.optim.adamw import apply_updates, global_norm, make_optimizer
from roberta_jax.parallel.tables import batch_sharding, constrain_microbatches, shardings
from roberta_jax.train.state import TrainState, init_state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """What a step reports, as float32 scalars on the device."""

    sums: LossSums
    gradient_norm: jax.Array
    learning_rate: jax.Array


def gradient_of_batch(
    config: PretrainConfig, params: Params, batch: MaskedBatch, keys: jax.Array | None
) -> tuple[Params, LossSums]:
    """The gradient of the batch's mean loss, summed over its microbatches.

    Args:
      config: the run.
      params: the weights.
      batch: the global batch, [B, …].
      keys: dropout keys [B] uint32, or None.

    Returns:
      The gradient (float32, like params) and the sums of the batch.
    """

    def loss_of(
        params: Params, part: MaskedBatch, part_keys: jax.Array | None
    ) -> tuple[jax.Array, LossSums]:
        model = bind(config.encoder, params)
        logits = model(part.tokens, part.positions, part_keys, segments=part.segments)
        sums = masked_lm_sums(logits, part.targets, part.weights)
        # The count of the *whole* batch: a mean of means would be biased. Never 0 / 0.
        return sums.loss / jnp.maximum(batch.weights.sum(), 1.0), sums

    gradient_of = jax.grad(loss_of, has_aux=True)
    parts = config.train.num_microbatches
    if parts == 1:
        return gradient_of(params, batch, keys)

    def split(x: jax.Array) -> jax.Array:
        # Every microbatch takes rows from every device, so no row moves.
        return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)

    def add(
        total: tuple[Params, LossSums], part: tuple[MaskedBatch, jax.Array | None]
    ) -> tuple[tuple[Params, LossSums], None]:
        return jax.tree.map(jnp.add, total, gradient_of(params, *part)), None

    microbatches = constrain_microbatches(jax.tree.map(split, (batch, keys)))
    zero = LossSums(*(jnp.zeros(()) for _ in dataclasses.fields(LossSums)))
    total, _ = jax.lax.scan(add, (jax.tree.map(jnp.zeros_like, params), zero), microbatches)
    return total


def make_step(
    config: PretrainConfig, masker: Masker
) -> tuple[
    Callable[[], TrainState],
    Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, StepMetrics]],
]:
    """The pure functions of a run.

    Returns:
      `init() -> TrainState` and `step(state, batch) -> (state, StepMetrics)`, where batch has
      tokens [B, T] int32, index [B] uint32, epoch [B] uint32.
    """
    optimizer, rate = make_optimizer(config.optimizer, config.train.num_steps)

    def init() -> TrainState:
        return init_state(config, optimizer)

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, StepMetrics]:
        masked = masker(batch["tokens"], batch["index"], batch["epoch"], masking_key(config.seed))
        keys = row_keys(config.seed, state.step, masked.tokens.shape[0])
        gradient, sums = gradient_of_batch(config, state.params, masked, keys)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        metrics = StepMetrics(sums, global_norm(gradient), rate(state.step))
        params = apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, optimizer_state), metrics

    return init, step


def compile_step(
    config: PretrainConfig, masker: Masker, mesh: Mesh
) -> tuple[
    Callable[[], TrainState],
    Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, StepMetrics]],
    TrainState,
]:
    """`make_step` jitted over a mesh, the state donated and sharded by the tables.

    Returns:
      init, step, and the state's shapes (a TrainState of ShapeDtypeStructs without sharding).
      Call all of them under `jax.set_mesh(mesh)`.
    """
    init, step = make_step(config, masker)
    shapes = jax.eval_shape(init)
    placed = shardings(shapes, mesh)
    whole = NamedSharding(mesh, P())
    return (
        jax.jit(init, out_shardings=placed),
        jax.jit(
            step,
            in_shardings=(placed, batch_sharding(mesh)),
            out_shardings=(placed, whole),
            donate_argnums=0,
        ),
        shapes,
    )
