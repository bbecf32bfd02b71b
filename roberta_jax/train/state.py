"""Everything that an update changes, as one tree of arrays."""

import dataclasses

import jax
import jax.numpy as jnp

from roberta_jax.config import PretrainConfig
from roberta_jax.encoder.model import Params, init_params
from roberta_jax.optim.optimizer import Optimizer, OptimizerState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a run after `step` updates."""

    step: jax.Array  # int32 scalar; updates that were left out are counted.
    params: Params
    optimizer: OptimizerState
    average: Params  # Of the weights, like params; {} in a run without an average.

    @property
    def evaluated(self) -> Params:
        """The weights that are evaluated and exported: the average, where there is one."""
        return self.average or self.params


def init_key(seed: int | jax.Array) -> jax.Array:
    """The key of the initial weights.

    A branch of the seed's key, not that key itself: its other branches serve other purposes.
    """
    return jax.random.fold_in(jax.random.key(seed), 0)


def init_state(config: PretrainConfig, optimizer: Optimizer) -> TrainState:
    """The state before the first update, a function of `config.seed`; call it under jit."""
    params = init_params(config.encoder, init_key(config.seed))
    return with_params(config, optimizer, params)


def with_params(config: PretrainConfig, optimizer: Optimizer, params: Params) -> TrainState:
    """The state before the first update of a run that begins with these weights."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        # A copy: the two are donated, and so cannot be the same arrays.
        average=jax.tree.map(jnp.copy, params) if config.optimizer.average_decay else {},
    )
