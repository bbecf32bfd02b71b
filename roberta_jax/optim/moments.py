"""Adam's direction (Kingma and Ba 2015, algorithm 1), with its moments in float32 or bfloat16."""

import math
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from roberta_jax.encoder.dropout import mix
from roberta_jax.encoder.model import Params
from roberta_jax.optim.rounding import random_bits, round_to_bfloat16
from roberta_jax.parallel.tables import path_name


class MomentsState(NamedTuple):
    """The state; the names of its fields are in the paths of checkpoints and sharding tables.

    Attributes:
      count: updates so far, int32 scalar.
      mu: the first moment, like the parameters.
      nu: the second moment, like the parameters.
    """

    count: jax.Array  # type: ignore[assignment]  # Tuples have a method of this name.
    mu: Params
    nu: Params


def scale_by_moments(
    *, beta1: float, beta2: float, epsilon: float, bias_correction: bool, dtype: jnp.dtype
) -> optax.GradientTransformation:
    """Replaces the gradient by m / (sqrt(v) + epsilon), computed in float32.

    Args:
      beta1: how much of the first moment m an update keeps.
      beta2: how much of the second moment v an update keeps.
      epsilon: added to the root.
      bias_correction: whether m and v are first divided by 1 - beta^updates, as they begin as 0;
        BERT's code does not.
      dtype: what the state holds the moments as. bfloat16 ones are rounded at random after the
        direction was computed, the same for every sharding.

    Returns:
      A transformation of trees of float32 arrays, whose state is a `MomentsState`.
    """
    # In float32 1 - beta has all its digits where beta has not: with beta = 0.999, a constant
    # gradient would have moments that are off by 1e-5.
    share1, share2 = float(np.float32(1 - beta1)), float(np.float32(1 - beta2))

    def init(params: Params) -> MomentsState:
        return MomentsState(
            count=jnp.zeros((), jnp.int32),
            mu=jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=dtype), params),
            nu=jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=dtype), params),
        )

    def update(
        gradient: Params, state: MomentsState, params: Params | None = None
    ) -> tuple[Params, MomentsState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: _moved(m, g, share1), state.mu, gradient)
        nu = jax.tree.map(lambda v, g: _moved(v, g * g, share2), state.nu, gradient)
        weight1 = _weight(share1, count) if bias_correction else 1.0
        weight2 = _weight(share2, count) if bias_correction else 1.0
        direction = jax.tree.map(
            lambda m, v: m / weight1 / (jnp.sqrt(v / weight2) + epsilon), mu, nu
        )
        if dtype == jnp.bfloat16:
            mu, nu = _rounded(mu, "mu", count), _rounded(nu, "nu", count)
        return direction, MomentsState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _moved(moment: jax.Array, new: jax.Array, share: float) -> jax.Array:
    moment = moment.astype(jnp.float32)
    return moment - share * moment + share * new


def _weight(share: float, count: jax.Array) -> jax.Array | float:
    """1 - beta^count, of which float32's own power would lose the last digits."""
    if share == 1:
        return 1.0
    return -jnp.expm1(count.astype(jnp.float32) * math.log1p(-share))


def _rounded(moments: Params, name: str, count: jax.Array) -> Params:
    def rounded(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
        # Python's own hash() of text differs from process to process.
        salt = jnp.uint32(zlib.crc32(f"{name}/{path_name(path)}".encode()))
        key = mix(count.astype(jnp.uint32)) ^ salt
        return round_to_bfloat16(leaf, random_bits(key, leaf.shape))

    return jax.tree_util.tree_map_with_path(rounded, moments)
