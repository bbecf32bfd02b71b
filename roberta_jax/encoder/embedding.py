"""Token, position and (BERT) token type embeddings, LayerNorm, dropout."""

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import dropout
from roberta_jax.encoder.norm import LayerNorm
from roberta_jax.encoder.product import normal_init
from roberta_jax.parallel.tables import constrain


def position_ids(real: jax.Array, first: int, segments: jax.Array | None = None) -> jax.Array:
    """Rows of the position table.

    Args:
      real: [B, T] bool, False for padding, which is not counted.
      first: the position of a row's first token.
      segments: [B, T] int32; the tokens of a segment stand together, and each counts from `first`.

    Returns:
      [B, T] int32; padding has the position before the first one.
    """
    count = jnp.cumsum(real, axis=1, dtype=jnp.int32)  # From 1.
    if segments is not None:
        begins = jnp.diff(segments, axis=1, prepend=segments[:, :1] - 1) != 0
        count -= jax.lax.cummax(jnp.where(begins, count - real, 0), axis=1)
    return jnp.where(real, count + first - 1, max(first - 1, 0))


def _look_up(embed: nnx.Embed, ids: jax.Array, place: str) -> jax.Array:
    """Rows [B, T, D] float32 of a table for ids [B, T]."""
    # Whole rows of it: were they split over `fsdp`, the compiler would look up the ids of all
    # devices on each of them.
    table = constrain(embed.embedding[...], place)
    return jnp.take(table, constrain(ids, "ids"), axis=0)


class Embedding(nnx.Module):
    """Token + position (+ token type) embedding → LayerNorm → dropout."""

    def __init__(self, config: EncoderConfig, *, key: jax.Array):
        """Tables as `normal_init`; the rows of padding, and of the vocabulary's padding, are 0."""
        token_key, position_key = jax.random.split(key)
        rows, width = config.padded_vocab_size(), config.hidden_size
        self.token = nnx.Embed(
            rows, width, embedding_init=normal_init(config), rngs=nnx.Rngs(token_key)
        )
        self.position = nnx.Embed(
            config.max_positions + config.position_offset,
            width,
            embedding_init=normal_init(config),
            rngs=nnx.Rngs(position_key),
        )
        table = self.token.embedding[...]
        used = (jnp.arange(rows) < config.vocab_size) & (jnp.arange(rows) != config.pad_id)
        self.token.embedding[...] = jnp.where(used[:, None], table, 0)
        if config.position_offset:
            padding = config.position_offset - 1
            self.position.embedding[...] = self.position.embedding[...].at[padding].set(0)
        if config.num_token_types:
            self.token_type = nnx.Embed(
                config.num_token_types,
                width,
                embedding_init=normal_init(config),
                rngs=nnx.Rngs(jax.random.fold_in(key, 2)),
            )
        self.norm = LayerNorm(config)
        self.num_token_types = config.num_token_types
        self.position_offset = config.position_offset
        self.dropout_rate = config.embedding_dropout_rate

    def __call__(
        self,
        tokens: jax.Array,
        real: jax.Array,
        keys: jax.Array | None,
        *,
        segments: jax.Array | None = None,
        token_types: jax.Array | None = None,
    ) -> jax.Array:
        """Embeds.

        Args:
          tokens: [B, T] int32.
          real: [B, T] bool, False for padding.
          keys: dropout keys [B] uint32, or None.
          segments: [B, T] int32, the parts of packed rows; None: a row is one.
          token_types: [B, T] int32; None: all 0. Ignored by a model without token types.

        Returns:
          [B, T, D] in the compute type.
        """
        # RoBERTa counts what is not padding, BERT every place.
        counted = real if self.position_offset else jnp.ones_like(real)
        positions = position_ids(counted, self.position_offset, segments)
        x = _look_up(self.token, tokens, "table") + _look_up(
            self.position, positions, "small_table"
        )
        if self.num_token_types:
            types = jnp.zeros_like(tokens) if token_types is None else token_types
            x += _look_up(self.token_type, types, "small_table")
        return dropout(self.norm(x), keys, self.dropout_rate)
