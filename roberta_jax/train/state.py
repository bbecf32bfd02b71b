"""Everything that an update changes, as one tree of arrays."""

import dataclasses

import jax
import jax.numpy as jnp

from roberta_jax.config import PretrainConfig
from roberta_jax.encoder.model import Params, init_params
from roberta_jax.optim.adamw import Optimizer, OptimizerState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run after `step` updates."""

    step: jax.Array  # int32 scalar.
    params: Params
    optimizer: OptimizerState


def init_key(seed: int) -> jax.Array:
    """The key of the initial weights.

    A branch of the seed's key, not that key itself: its other branches serve other purposes.
    """
    return jax.random.fold_in(jax.random.key(seed), 0)


def init_state(config: PretrainConfig, optimizer: Optimizer) -> TrainState:
    """The state before the first update, a function of `config.seed`; call it under jit."""
    params = init_params(config.encoder, init_key(config.seed))
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, optimizer=optimizer.init(params)
    )
