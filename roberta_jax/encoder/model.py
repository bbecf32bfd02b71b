"""The masked language model as a whole; outside a trace its weights are a nested dict."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import PAD_ID, EncoderConfig
from roberta_jax.encoder.dropout import site_keys
from roberta_jax.encoder.embedding import Embedding
from roberta_jax.encoder.heads import MaskedLanguageModelHead
from roberta_jax.encoder.stack import init_layers, run_layers
from roberta_jax.parallel.tables import constrain

Params = dict[str, Any]  # Nested; leaves are float32 arrays, those under "layers" stacked [L, …].


class MaskedLanguageModel(nnx.Module):
    """RoBERTa with the masked-language-model head (paper section 2; recipes of BERT base/large)."""

    def __init__(self, config: EncoderConfig, *, key: jax.Array):
        """Draws the initial weights from `key`."""
        embedding_key, layers_key, head_key = jax.random.split(key, 3)
        self.embedding = Embedding(config, key=embedding_key)
        self.layers = init_layers(config, layers_key)
        self.head = MaskedLanguageModelHead(config, rngs=nnx.Rngs(head_key))
        self.rematerialization = config.rematerialization

    def states(self, tokens: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Hidden states of the last layer.

        Args:
          tokens: [B, T] int; PAD_ID marks padding, which nothing attends to.
          keys: dropout keys [B] uint32, or None for no dropout.

        Returns:
          [B, T, D] in the compute type.
        """
        x = constrain(self.embedding(tokens, site_keys(keys, 0)), "hidden")
        return run_layers(
            self.layers, x, tokens != PAD_ID, keys, rematerialization=self.rematerialization
        )

    def __call__(
        self, tokens: jax.Array, positions: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """Logits at chosen positions only.

        Args:
          tokens: [B, T] int.
          positions: [B, M] int, places in the row that are projected onto the vocabulary.
          keys: dropout keys [B] uint32, or None.

        Returns:
          [B, M, V] float32, -inf beyond the vocabulary.
        """
        states = self.states(tokens, keys)
        chosen = jnp.take_along_axis(states, positions[..., None], axis=1)  # [B, M, D]
        logits = self.head(constrain(chosen, "masked_hidden"), self.embedding.token.embedding[...])
        return constrain(logits, "logits")


def init_params(config: EncoderConfig, key: jax.Array) -> Params:
    """Initial weights as a nested dict of float32 arrays."""
    return nnx.to_pure_dict(nnx.state(MaskedLanguageModel(config, key=key)))


def abstract_params(config: EncoderConfig) -> Params:
    """The shapes of the weights, without making them."""
    # The key is made inside: a concrete one would be placed on the devices.
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))


def bind(config: EncoderConfig, params: Params) -> MaskedLanguageModel:
    """The model whose weights are `params`; costs nothing at run time (it happens in the trace)."""
    model = jax.eval_shape(lambda: MaskedLanguageModel(config, key=jax.random.key(0)))
    graphdef, state = nnx.split(model)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graphdef, state)


def count_params(config: EncoderConfig) -> int:
    """Trainable numbers, without the padding rows of the vocabulary (RoBERTa base: 124,696,665)."""
    total = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
    padding_rows = config.padded_vocab_size() - config.vocab_size
    return total - padding_rows * (config.hidden_size + 1)
