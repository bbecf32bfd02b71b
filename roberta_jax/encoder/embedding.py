"""Token and position embeddings, LayerNorm, dropout."""

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import PAD_ID, POSITION_OFFSET, EncoderConfig
from roberta_jax.encoder.dropout import dropout
from roberta_jax.encoder.norm import LayerNorm
from roberta_jax.encoder.product import normal_init


def position_ids(tokens: jax.Array) -> jax.Array:
    """Positions [B, T] of tokens [B, T]: from PAD_ID + 1 on, counting non-padding tokens only."""
    real = tokens != PAD_ID
    return jnp.where(real, jnp.cumsum(real, axis=1, dtype=jnp.int32) + PAD_ID, PAD_ID)


class Embedding(nnx.Module):
    """Token + position embedding → LayerNorm → dropout."""

    def __init__(self, config: EncoderConfig, *, key: jax.Array):
        """Tables as `normal_init`; the rows of padding, and of the vocabulary's padding, are 0."""
        token_key, position_key = jax.random.split(key)
        rows, width = config.padded_vocab_size(), config.hidden_size
        self.token = nnx.Embed(
            rows, width, embedding_init=normal_init(config), rngs=nnx.Rngs(token_key)
        )
        self.position = nnx.Embed(
            config.max_positions + POSITION_OFFSET,
            width,
            embedding_init=normal_init(config),
            rngs=nnx.Rngs(position_key),
        )
        table = self.token.embedding[...]
        used = (jnp.arange(rows) < config.vocab_size) & (jnp.arange(rows) != PAD_ID)
        self.token.embedding[...] = jnp.where(used[:, None], table, 0)
        self.position.embedding[...] = self.position.embedding[...].at[PAD_ID].set(0)
        self.norm = LayerNorm(config)
        self.dropout_rate = config.dropout_rate

    def __call__(self, tokens: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Tokens [B, T] int32, dropout keys [B] or None → [B, T, D] in the compute type."""
        x = self.token(tokens) + self.position(position_ids(tokens))  # [B, T, D] float32
        return dropout(self.norm(x), keys, self.dropout_rate)
