"""Masks of whole words: where words begin, and BERT's greedy choice of some of them.

The choice is `create_masked_lm_predictions` of google-research/bert, create_pretraining_data.py,
with `do_whole_word_mask`: words in a random order, each taken if all of it still fits.
"""

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError


def word_starts(tokenizer: Tokenizer) -> np.ndarray:
    """Which entries of a vocabulary begin a word: bool [vocab_size].

    Those with white space in front, however the vocabulary spells it ("Ġ" of byte-level BPE, "▁" of
    sentencepiece, no "##" of WordPiece), and the special ones. What begins a text without white
    space is found by the special token before it. A full stop belongs to the word before it where
    the vocabulary does not say otherwise, as in fairseq; a stretch of a script without blanks is
    one word.

    Raises:
      UserError: no entry begins a word.
    """
    starts = np.array([piece[:1].isspace() for piece in tokenizer.pieces()])
    if not starts.any():
        raise UserError(
            "masking.whole_words needs a vocabulary that tells where words begin, and none of the "
            f"{tokenizer.vocab_size:,} entries of this one ({tokenizer.kind}) has a blank in "
            "front. Use masking.whole_words=false."
        )
    starts[list(tokenizer.special_ids)] = True
    return starts


def word_begins(tokens: jax.Array, starts: jax.Array, special: jax.Array) -> jax.Array:
    """Where in a row a word begins; a special token is one by itself.

    Args:
      tokens: [T] int.
      starts: [V] bool, of `word_starts`.
      special: [V] bool, the special tokens.

    Returns:
      [T] bool.
    """
    is_special = special[tokens]
    after_special = jnp.pad(is_special[:-1], (1, 0), constant_values=True)
    return starts[tokens] | is_special | after_special


def choose_words(
    begins: jax.Array, maskable: jax.Array, wanted: jax.Array, key: jax.Array, *, most: int
) -> jax.Array:
    """The places of random whole words that together have about `wanted` tokens.

    Args:
      begins: [T] bool, where a word begins.
      maskable: [T] bool; the tokens of a word are so all or none.
      wanted: scalar int32, at most `most`.
      key: a jax.random key.
      most: static; twice as many words are tried. The chance that one more would have fitted is
        nil, and the row would have a prediction less.

    Returns:
      [T] bool with at most `wanted` places. If every word is longer, the first `wanted` tokens of a
      random one: a row has at least one prediction if it can.
    """
    (length,) = begins.shape
    places = jnp.arange(length, dtype=jnp.int32)
    following = jax.lax.cummin(jnp.where(begins, places, length), reverse=True)
    following = jnp.pad(following[1:], (0, 1), constant_values=length)  # The next word's place.
    sizes = jnp.where(begins & maskable, following - places, 0)  # Of the word that begins here.

    # A random order of the words; those that can never fit behind the others, then what is no word.
    # 24 bits are exact in float32.
    bits = 24
    scores = (jax.random.bits(key, (length,)) >> (32 - bits)).astype(jnp.float32)
    scores = jnp.where(sizes <= wanted, scores, scores - 2**bits)
    scores = jnp.where(sizes > 0, scores, -(2.0 ** (bits + 1)))
    _, firsts = jax.lax.top_k(scores, min(2 * most, length))

    def take(room: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
        taken = (size > 0) & (size <= room)
        return room - jnp.where(taken, size, 0), taken

    room, taken = jax.lax.scan(take, wanted, sizes[firsts], unroll=8)
    taken_at = jnp.zeros(length, bool).at[firsts].set(taken)
    first_of_word = jax.lax.cummax(jnp.where(begins, places, 0))  # [T]
    whole = maskable & taken_at[first_of_word]
    part = maskable & (first_of_word == firsts[0]) & (places - firsts[0] < wanted)
    return jnp.where(room == wanted, part, whole)
