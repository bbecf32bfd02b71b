"""The masked language model as a whole; outside a trace its weights are a nested dict."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import site_keys
from roberta_jax.encoder.embedding import Embedding
from roberta_jax.encoder.heads import MaskedLanguageModelHead, NextSentenceHead
from roberta_jax.encoder.stack import init_layers, run_layers, trace_layers
from roberta_jax.parallel.tables import constrain

Params = dict[str, Any]  # Nested; leaves are float32 arrays, those under "layers" stacked [L, …].
Model = TypeVar("Model", bound=nnx.Module)


class Encoder(nnx.Module):
    """Embedding and layers, without a head."""

    def __init__(self, config: EncoderConfig, *, embedding_key: jax.Array, layers_key: jax.Array):
        """Draws the initial weights."""
        self.embedding = Embedding(config, key=embedding_key)
        self.layers = init_layers(config, layers_key)
        self.pad_id = config.pad_id
        self.rematerialization = config.rematerialization

    def states(
        self,
        tokens: jax.Array,
        keys: jax.Array | None = None,
        *,
        segments: jax.Array | None = None,
        token_types: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Hidden states of the last layer.

        Args:
          tokens: [B, T] int; `pad_id` marks padding, which nothing attends to.
          keys: dropout keys [B] uint32, or None for no dropout.
          segments: [B, T] int32, the part of a packed row that a token belongs to: attention stays
            inside, and positions restart. None: a row is one part.
          token_types: [B, T] int32, for a model that has them; None: all 0.
          attention_mask: [B, T] bool, what can be attended to; None: all but padding.

        Returns:
          [B, T, D] in the compute type.
        """
        x, visible = self._embedded(tokens, keys, segments, token_types, attention_mask)
        return run_layers(self.layers, x, visible, keys, rematerialization=self.rematerialization)

    def trace(
        self,
        tokens: jax.Array,
        *,
        segments: jax.Array | None = None,
        token_types: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """As `states`, but what every layer gives: see `stack.trace_layers`."""
        embedded = self._embedded(tokens, None, segments, token_types, attention_mask)
        return trace_layers(self.layers, *embedded)

    def _embedded(
        self,
        tokens: jax.Array,
        keys: jax.Array | None,
        segments: jax.Array | None,
        token_types: jax.Array | None,
        attention_mask: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        real = tokens != self.pad_id
        x = self.embedding(
            tokens, real, site_keys(keys, 0), segments=segments, token_types=token_types
        )
        visible = real if attention_mask is None else attention_mask  # [B, S]
        if segments is not None:
            together = segments[:, :, None] == segments[:, None, :]
            visible = visible[:, None, :] & together  # [B, T, S]
        return constrain(x, "hidden"), visible


class MaskedLanguageModel(Encoder):
    """RoBERTa with the masked-language-model head (paper section 2; recipes of BERT base/large).

    With `EncoderConfig.next_sentence_head`, BERT's second objective has a head beside it.
    """

    def __init__(self, config: EncoderConfig, *, key: jax.Array):
        """Draws the initial weights from `key`."""
        embedding_key, layers_key, head_key = jax.random.split(key, 3)
        super().__init__(config, embedding_key=embedding_key, layers_key=layers_key)
        self.head = MaskedLanguageModelHead(config, rngs=nnx.Rngs(head_key))
        if config.next_sentence_head:
            # `split(key, 3)` and `fold_in(key, 0 … 2)` are the same keys; the others stay as they
            # are in a model without this head.
            own_key = jax.random.fold_in(key, 3)
            self.next_sentence_head = NextSentenceHead(config, rngs=nnx.Rngs(own_key))

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        keys: jax.Array | None = None,
        *,
        segments: jax.Array | None = None,
        token_types: jax.Array | None = None,
    ) -> jax.Array:
        """Logits at chosen positions only.

        Args:
          tokens: [B, T] int.
          positions: [B, M] int, places in the row that are projected onto the vocabulary.
          keys: dropout keys [B] uint32, or None.
          segments: as for `states`.
          token_types: as for `states`.

        Returns:
          [B, M, V] float32, -inf beyond the vocabulary.
        """
        states = self.states(tokens, keys, segments=segments, token_types=token_types)
        return self.project(jnp.take_along_axis(states, positions[..., None], axis=1))

    def outputs(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        keys: jax.Array | None = None,
        *,
        segments: jax.Array | None = None,
        token_types: jax.Array | None = None,
        starts: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """What both heads of a model with `next_sentence_head` give.

        Args:
          tokens: [B, T] int.
          positions: [B, M] int, as for the call.
          keys: dropout keys [B] uint32, or None.
          segments: as for `states`.
          token_types: as for `states`.
          starts: [B, E] int, places of the `<s>` of the examples of a row.

        Returns:
          The logits of the call, [B, M, V] float32, and those of `NextSentenceHead`, [B, E, 2]
          float32.
        """
        states = self.states(tokens, keys, segments=segments, token_types=token_types)
        logits = self.project(jnp.take_along_axis(states, positions[..., None], axis=1))
        vectors = jnp.take_along_axis(states, starts[..., None], axis=1)  # [B, E, D]
        return logits, self.next_sentence_head(constrain(vectors, "masked_hidden"))

    def project(self, states: jax.Array) -> jax.Array:
        """Logits [B, M, V] float32 of hidden states [B, M, D]."""
        states = constrain(states, "masked_hidden")
        table = constrain(self.embedding.token.embedding[...], "table")
        return constrain(self.head(states, table), "logits")


def init_params(config: EncoderConfig, key: jax.Array) -> Params:
    """Initial weights as a nested dict of float32 arrays."""
    return weights_of(MaskedLanguageModel(config, key=key))


def abstract_params(config: EncoderConfig) -> Params:
    """The shapes of the weights, without making them."""
    # The key is made inside: a concrete one would be placed on the devices.
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))


def bind(config: EncoderConfig, params: Params) -> MaskedLanguageModel:
    """The model whose weights are `params`; costs nothing at run time (it happens in the trace)."""
    return bind_weights(lambda: MaskedLanguageModel(config, key=jax.random.key(0)), params)


def weights_of(model: nnx.Module) -> Params:
    """The weights of a module as a nested dict."""
    return nnx.to_pure_dict(nnx.state(model))


def bind_weights(construct: Callable[[], Model], params: Params) -> Model:
    """The module that `construct` would make, with `params` as its weights."""
    graphdef, state = nnx.split(jax.eval_shape(construct))
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graphdef, state)


def count_params(config: EncoderConfig) -> int:
    """Trainable numbers, without the padding rows of the vocabulary (RoBERTa base: 124,696,665)."""
    total = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
    padding_rows = config.padded_vocab_size() - config.vocab_size
    return total - padding_rows * (config.hidden_size + 1)
