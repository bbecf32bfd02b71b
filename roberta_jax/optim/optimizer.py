"""AdamW and LAMB as RoBERTa uses them (paper table 9: betas 0.9/0.98, eps 1e-6, decay 0.01)."""

import dataclasses
import functools
import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from roberta_jax.config import OptimizerConfig
from roberta_jax.encoder.model import Params
from roberta_jax.optim.decay import decay_mask
from roberta_jax.optim.moments import scale_by_moments
from roberta_jax.optim.trust_ratio import scale_by_trust_ratio

OptimizerState: TypeAlias = optax.OptState  # A tuple; the moments are its second entry.


@dataclasses.dataclass(frozen=True, slots=True)
class Optimizer:
    """From a gradient to the update of the parameters; both methods can be traced.

    Attributes:
      direction: the transformation from a gradient to what is multiplied by minus the rate.
    """

    direction: optax.GradientTransformation

    def init(self, params: Params) -> OptimizerState:
        """The state before the first update."""
        return self.direction.init(params)

    def update(
        self,
        gradient: Params,
        state: OptimizerState,
        params: Params,
        *,
        learning_rate: jax.Array,
    ) -> tuple[Params, OptimizerState]:
        """One update.

        Args:
          gradient: float32, like params.
          state: of `init`, or of the update before.
          params: the weights, float32.
          learning_rate: float32 scalar. It is given, not counted here: where an update is skipped
            and its state is dropped, the schedule goes on with the run's step.

        Returns:
          What to add to the parameters, and the new state.
        """
        direction, state = self.direction.update(gradient, state, params)
        return jax.tree.map(lambda leaf: -learning_rate * leaf, direction), state


def make_optimizer(config: OptimizerConfig) -> Optimizer:
    """The chain clip → moments → decoupled decay → LAMB's trust ratio → learning rate."""
    decays = functools.partial(decay_mask, table=config.decay_table)
    steps = [
        # Always there, so that the moments are at the same place of the state.
        optax.identity()
        if math.isinf(config.clip_global_norm)
        else optax.clip_by_global_norm(config.clip_global_norm),
        scale_by_moments(
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            bias_correction=config.bias_correction,
            dtype=jnp.dtype(config.moments_dtype),
        ),
        optax.add_decayed_weights(config.weight_decay, mask=decays),
    ]
    if config.kind == "lamb":
        steps.append(scale_by_trust_ratio(decays))
    return Optimizer(optax.chain(*steps))


def global_norm(tree: Any) -> jax.Array:
    """The 2-norm of all leaves together."""
    return optax.tree.norm(tree)


def apply_updates(params: Params, updates: Params) -> Params:
    """Params + updates."""
    return optax.apply_updates(params, updates)
