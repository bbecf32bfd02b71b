"""Heads on top of the hidden states."""

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import dropout, site_keys
from roberta_jax.encoder.layer import gelu
from roberta_jax.encoder.norm import LayerNorm
from roberta_jax.encoder.product import Linear, add_bias, product

# Columns of the logits of `NextSentenceHead`, as in google-research/bert and transformers; fairseq
# has them the other way round, so nothing else may number them.
NEXT_COLUMN = 0  # The second segment follows the first.
RANDOM_COLUMN = 1  # It comes from another document.
_NUM_COLUMNS = 2


class MaskedLanguageModelHead(nnx.Module):
    """Dense D → D, GELU, LayerNorm, projection tied to the token embedding, bias."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """The projection's weights are the embedding's and are given at the call."""
        self.compute_dtype = jnp.dtype(config.compute_dtype)
        self.dense = Linear(config.hidden_size, config.hidden_size, config, rngs=rngs)
        self.norm = LayerNorm(config)
        self.bias = nnx.Param(jnp.zeros((config.padded_vocab_size(),), jnp.float32))
        self.vocab_size = config.vocab_size

    def __call__(self, states: jax.Array, table: jax.Array) -> jax.Array:
        """Logits of states [B, M, D] with the embedding table [V, D] → [B, M, V] float32.

        The entries beyond the vocabulary (the table's padding) are -inf: they get no probability.
        """
        x = self.norm(gelu(self.dense(states)))
        real = jnp.arange(table.shape[0]) < self.vocab_size
        bias = jnp.where(real, self.bias[...], -jnp.inf)  # [V]: cheaper than masking [B, M, V].
        return add_bias(product(x, table, self.compute_dtype, jnp.float32, True), bias)


class NextSentenceHead(nnx.Module):
    """The vector of `<s>` → dense D → D → tanh → projection D → 2, without dropout.

    The dense layer is BERT's pooler, the projection its `cls/seq_relationship`
    (google-research/bert, modeling.py and run_pretraining.py).
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Two projections."""
        self.dense = Linear(config.hidden_size, config.hidden_size, config, rngs=rngs)
        self.projection = Linear(config.hidden_size, _NUM_COLUMNS, config, rngs=rngs)

    def __call__(self, states: jax.Array) -> jax.Array:
        """States [B, E, D] of `<s>` → [B, E, 2] float32; see NEXT_COLUMN and RANDOM_COLUMN."""
        return self.projection(jnp.tanh(self.dense(states))).astype(jnp.float32)


class SentenceHead(nnx.Module):
    """The vector of `<s>` → dense D → D → tanh → dropout → projection (RoBERTa's classifier)."""

    def __init__(
        self,
        config: EncoderConfig,
        num_outputs: int,
        dropout_rate: float,
        *,
        drop_input: bool,
        rngs: nnx.Rngs,
    ):
        """Two projections; with `drop_input`, there is dropout before the first as well."""
        self.dense = Linear(config.hidden_size, config.hidden_size, config, rngs=rngs)
        self.projection = Linear(config.hidden_size, num_outputs, config, rngs=rngs)
        self.input_dropout_rate = dropout_rate if drop_input else 0.0
        self.dropout_rate = dropout_rate

    def __call__(self, states: jax.Array, keys: jax.Array | None) -> jax.Array:
        """States [B, T, D], dropout keys [B] or None → [B, C] float32."""
        x = dropout(states[:, 0], site_keys(keys, 0), self.input_dropout_rate)
        x = dropout(jnp.tanh(self.dense(x)), site_keys(keys, 1), self.dropout_rate)
        return self.projection(x).astype(jnp.float32)


class TokenHead(nnx.Module):
    """Dropout → projection, of every token."""

    def __init__(
        self, config: EncoderConfig, num_outputs: int, dropout_rate: float, *, rngs: nnx.Rngs
    ):
        """One projection."""
        self.projection = Linear(config.hidden_size, num_outputs, config, rngs=rngs)
        self.dropout_rate = dropout_rate

    def __call__(self, states: jax.Array, keys: jax.Array | None) -> jax.Array:
        """States [B, T, D], dropout keys [B] or None → [B, T, C] float32."""
        return self.projection(dropout(states, keys, self.dropout_rate)).astype(jnp.float32)
