"""One transformer layer, LayerNorm after each sublayer (post-norm), as in BERT and RoBERTa."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.attention import SelfAttention
from roberta_jax.encoder.dropout import dropout, site_keys
from roberta_jax.encoder.norm import LayerNorm
from roberta_jax.encoder.product import Linear


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x·Φ(x) with the exact normal distribution function, not the tanh form.

    The gradient is written out, Φ(x) + x·φ(x): it needs x only, where differentiating the parts
    would keep several arrays of its size.
    """
    return (x.astype(jnp.float32) * _normal_cdf(x)).astype(x.dtype)


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x.astype(jnp.float32) * 0.5**0.5))


def _gelu_backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
    return ((cotangent * (_normal_cdf(x) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class Mlp(nnx.Module):
    """D → F → GELU → dropout → D."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Two projections."""
        self.up = Linear(config.hidden_size, config.mlp_size, config, rngs=rngs)
        self.down = Linear(config.mlp_size, config.hidden_size, config, rngs=rngs)
        self.dropout_rate = config.activation_dropout_rate

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """X [B, T, D], dropout keys [B] or None → [B, T, D]."""
        return self.down(dropout(gelu(self.up(x)), keys, self.dropout_rate))


class Layer(nnx.Module):
    """x → norm(x + attention(x)) → norm(x + mlp(x))."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Weights of one layer."""
        self.attention = SelfAttention(config, rngs=rngs)
        self.attention_norm = LayerNorm(config)
        self.mlp = Mlp(config, rngs=rngs)
        self.mlp_norm = LayerNorm(config)
        self.dropout_rate = config.dropout_rate

    def __call__(self, x: jax.Array, visible: jax.Array, keys: jax.Array | None) -> jax.Array:
        """X [B, T, D], visible as for attention, dropout keys [B] of this layer → [B, T, D]."""
        attended = self.attention(x, visible, site_keys(keys, 0))
        attended = dropout(attended, site_keys(keys, 1), self.dropout_rate)
        x = self.attention_norm(x + attended)
        # Sites have the numbers that they always had: the activation's came later.
        after = self.mlp(x, site_keys(keys, 3))
        return self.mlp_norm(x + dropout(after, site_keys(keys, 2), self.dropout_rate))
