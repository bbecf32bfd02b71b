"""LAMB's trust ratio: the update of a layer becomes as long as the layer's weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from roberta_jax.encoder.model import Params
from roberta_jax.parallel.tables import path_name


def scale_by_trust_ratio(mask: Callable[[Params], Any]) -> optax.GradientTransformation:
    """Multiplies the update u of weights p by |p| / |u| (arXiv 1904.00962, algorithm 2, no clip).

    As in NVIDIA's recipe, only where weight decay applies: `optax.lamb` does it to every leaf,
    where biases, which begin as 0, would all but stop learning. Leaves under `layers`, which are
    stacked [L, …], have a ratio per layer. The ratio is 1 where either norm is 0.

    Args:
      mask: of the parameters, a tree of bools: whether they have a ratio.

    Returns:
      A transformation of trees of float32 arrays, without state; `update` needs the parameters.
    """

    def init(params: Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: Params, state: optax.EmptyState, params: Params | None = None
    ) -> tuple[Params, optax.EmptyState]:
        assert params is not None

        def scaled(
            path: jax.tree_util.KeyPath, update: jax.Array, weights: jax.Array, has_ratio: bool
        ) -> jax.Array:
            if not has_ratio:
                return update
            stacked = path_name(path).startswith("layers/")
            return update * _ratio(weights, update, stacked)

        return jax.tree_util.tree_map_with_path(scaled, updates, params, mask(params)), state

    return optax.GradientTransformation(init, update)


def _ratio(weights: jax.Array, update: jax.Array, stacked: bool) -> jax.Array:
    """The ratio of one leaf, a scalar, or of its layers, [L, 1, …]."""
    axes = tuple(range(int(stacked), weights.ndim))
    weights_norm = jnp.sqrt(jnp.sum(jnp.square(weights), axes, keepdims=True))
    update_norm = jnp.sqrt(jnp.sum(jnp.square(update), axes, keepdims=True))
    defined = (weights_norm > 0) & (update_norm > 0)
    return jnp.where(defined, weights_norm / jnp.where(defined, update_norm, 1.0), 1.0)
