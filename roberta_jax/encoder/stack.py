"""All layers as one scan: the program, and its compile time, don't grow with the depth."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import site_keys
from roberta_jax.encoder.layer import Layer
from roberta_jax.parallel.tables import constrain

# What the backward pass may keep of a layer; the rest is computed again.
_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def init_layers(config: EncoderConfig, key: jax.Array) -> Layer:
    """One `Layer` whose leaves are stacked: [L, …]."""
    keys = jax.random.split(key, config.num_layers)
    return jax.vmap(lambda layer_key: Layer(config, rngs=nnx.Rngs(layer_key)))(keys)


def run_layers(
    layers: Layer,
    x: jax.Array,
    visible: jax.Array,
    keys: jax.Array | None,
    *,
    rematerialization: str,
) -> jax.Array:
    """Runs the stacked layers over x.

    Args:
      layers: what `init_layers` made.
      x: [B, T, D].
      visible: [B, S] or [B, T, S] bool, what can be attended to.
      keys: dropout keys [B] uint32, or None.
      rematerialization: none, dots (keep matrix products) or full (keep only the layer's input).

    Returns:
      [B, T, D].
    """

    def body(carry: tuple[jax.Array, jax.Array], layer: Layer) -> tuple[tuple, None]:
        states, depth = carry
        states = layer(states, visible, site_keys(keys, depth + 1))  # Site 0 is the embedding's.
        return (constrain(states, "hidden"), depth + 1), None

    if rematerialization != "none":
        policy = _POLICIES[rematerialization]
        body = functools.partial(jax.checkpoint, policy=policy, prevent_cse=False)(body)
    (x, _), _ = jax.lax.scan(body, (x, jnp.uint32(0)), layers)
    return x


def trace_layers(layers: Layer, x: jax.Array, visible: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What happens inside, without dropout, for looking at it and for comparing with other code.

    Returns:
      The input and the output of every layer [L + 1, B, T, D], and the attention probabilities of
      every layer [L, B, H, T, S] float32.
    """

    def body(states: jax.Array, layer: Layer) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        after = layer(states, visible, None)
        return after, (after, layer.attention.weights(states, visible))

    _, (after, weights) = jax.lax.scan(body, x, layers)
    return jnp.concatenate([x[None], after]), weights
