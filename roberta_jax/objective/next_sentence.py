"""Next-sentence prediction: where the pairs of a row begin, their token types, and their loss.

A row holds pairs with nothing between them, each `<s> a </s></s> b </s>`, or `<s> a </s> b </s>`
where the tokenizer has a single separator, then padding; the segments hold no `</s>` of their own.
Text never yields `<s>` and `</s>`, so the tokens, before they are masked, say all of it.
"""

import dataclasses

import jax
import jax.numpy as jnp

from roberta_jax.data.rows import NextSentence
from roberta_jax.encoder.heads import NEXT_COLUMN, RANDOM_COLUMN
from roberta_jax.objective.loss import masked_lm_sums


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NextSentenceSums:
    """Sums over pairs; add them over microbatches, hosts and batches, then divide once."""

    loss: jax.Array  # Nats.
    correct: jax.Array  # Pairs to whose label the other one is not preferred.
    count: jax.Array  # Pairs.

    def __add__(self, other: "NextSentenceSums") -> "NextSentenceSums":
        """Elementwise."""
        return jax.tree.map(jnp.add, self, other)


def example_starts(tokens: jax.Array, *, start_id: int, num_examples: int) -> jax.Array:
    """Where the first examples of packed rows begin.

    Args:
      tokens: [B, T] int, before they are masked.
      start_id: `<s>`, with which every example begins.
      num_examples: E, as many as a row has labels; at most T.

    Returns:
      [B, E] int32, the places of the first E `<s>`; 0 where there are fewer.
    """
    length = tokens.shape[1]
    distance = length - jnp.arange(length, dtype=jnp.int32)  # To the end of the row: 1 or more.
    found, _ = jax.lax.top_k(jnp.where(tokens == start_id, distance, 0), num_examples)
    return jnp.where(found > 0, length - found, 0)


def pair_token_types(tokens: jax.Array, *, start_id: int, eos_id: int, pad_id: int) -> jax.Array:
    """The token types of packed pairs, as BERT has them.

    Args:
      tokens: [B, T] int, before they are masked.
      start_id: `<s>`.
      eos_id: `</s>`.
      pad_id: padding.

    Returns:
      [B, T] int32: 1 for the second segment of a pair and the `</s>` behind it; 0 for `<s>`, the
      first segment, one or both separators, examples of a single segment, and padding.
    """
    is_end = tokens == eos_id
    before = jnp.cumsum(is_end, axis=1, dtype=jnp.int32) - is_end  # [B, T] `</s>` to the left.
    # Of those, the ones in earlier examples.
    earlier = jax.lax.cummax(jnp.where(tokens == start_id, before, 0), axis=1)
    follows_end = jnp.pad(is_end[:, :-1], ((0, 0), (1, 0)))
    is_second_separator = is_end & follows_end
    is_second = (before > earlier) & ~is_second_separator & (tokens != pad_id)
    return is_second.astype(jnp.int32)


def next_sentence_sums(logits: jax.Array, labels: jax.Array) -> NextSentenceSums:
    """Cross-entropy of the labels of pairs, summed.

    Args:
      logits: [B, E, 2] float32, of `encoder.heads.NextSentenceHead`.
      labels: [B, E] int, values of `data.rows.NextSentence`; NONE does not count.

    Returns:
      Float32 scalars; the loss is in nats.
    """
    targets = jnp.where(labels == NextSentence.RANDOM, RANDOM_COLUMN, NEXT_COLUMN)
    weights = (labels != NextSentence.NONE).astype(jnp.float32)
    sums = masked_lm_sums(logits, targets, weights)
    return NextSentenceSums(loss=sums.loss, correct=sums.correct, count=sums.count)
