"""AdamW as RoBERTa uses it (paper table 9: betas 0.9/0.98, eps 1e-6, decay 0.01)."""

import functools
import math
from typing import Any, TypeAlias

import jax
import optax

from roberta_jax.config import OptimizerConfig
from roberta_jax.optim.decay import decay_mask
from roberta_jax.optim.schedule import Schedule, linear_warmup_linear_decay

Optimizer: TypeAlias = optax.GradientTransformation
OptimizerState: TypeAlias = optax.OptState


def make_optimizer(config: OptimizerConfig, num_steps: int) -> tuple[Optimizer, Schedule]:
    """The chain clip → Adam moments (bias-corrected) → decoupled decay → learning rate.

    Returns:
      The transformation, and the learning rate as a function of the updates applied so far.
    """
    rate = linear_warmup_linear_decay(config, num_steps)
    clip = (
        optax.identity()
        if math.isinf(config.clip_global_norm)
        else optax.clip_by_global_norm(config.clip_global_norm)
    )
    chain = optax.chain(
        clip,
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon),
        optax.add_decayed_weights(
            config.weight_decay, mask=functools.partial(decay_mask, table=config.decay_table)
        ),
        optax.scale_by_learning_rate(rate),
    )
    return chain, rate


def global_norm(tree: Any) -> jax.Array:
    """The 2-norm of all leaves together."""
    return optax.tree.norm(tree)


def apply_updates(params: Any, updates: Any) -> Any:
    """Params + updates."""
    return optax.apply_updates(params, updates)
