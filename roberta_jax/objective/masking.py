"""Masks as a pure function of (seed, epoch, record): paper section 2.2 and 4.1, recipes of BERT.

The mask of a row doesn't depend on its place in the batch, on the devices, on the microbatches or
on a resume. A row with n maskable tokens has exactly round(rate · n) predictions (at least one);
they fill the first of M fixed slots, and the weights of the other slots are 0. With whole words,
there are at most as many (`whole_words`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.config import MaskingConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.objective.whole_words import choose_words, word_begins, word_starts


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MaskedBatch:
    """Rows with holes, and what was in them."""

    tokens: jax.Array  # [B, T] int32, as the encoder sees them.
    positions: jax.Array  # [B, M] int32, places of the predictions.
    targets: jax.Array  # [B, M] int32, the original tokens there.
    weights: jax.Array  # [B, M] float32, 1 for a prediction, 0 for an unused slot.
    # [B, T] int32, the example of a packed row that a token belongs to; None: a row is one example.
    segments: jax.Array | None = None


def masking_key(seed: int) -> jax.Array:
    """The key of the masks; a branch of its own beside `init_key`."""
    return jax.random.fold_in(jax.random.key(seed), 1)


@dataclasses.dataclass(frozen=True)
class Masker:
    """Draws masks for a vocabulary.

    Attributes:
      config: rates and shares.
      vocab_size: entries of the tokenizer.
      special_ids: ids that are never masked (unless the config says so) and never a replacement.
      mask_id: the id of `<mask>`.
      pad_id: the id of padding, which is never masked.
      start_id: the id that begins every example of a packed row; None: a row is one example.
      word_starts: by id, whether a token begins a word; given with `config.whole_words` only.
    """

    config: MaskingConfig
    vocab_size: int
    special_ids: tuple[int, ...]
    mask_id: int
    pad_id: int = 1
    start_id: int | None = None
    word_starts: tuple[bool, ...] = dataclasses.field(default=(), repr=False)

    @classmethod
    def of(cls, config: MaskingConfig, tokenizer: Tokenizer, *, attention: str = "row") -> "Masker":
        """The masks of a run on rows of this tokenizer.

        `attention` is "row", or "example" where the rows are packed.

        Raises:
          UserError: whole words are to be masked, and the vocabulary has none.
        """
        return cls(
            config,
            tokenizer.vocab_size,
            tokenizer.special_ids,
            tokenizer.mask_id,
            tokenizer.pad_id,
            tokenizer.bos_id if attention == "example" else None,
            tuple(word_starts(tokenizer).tolist()) if config.whole_words else (),
        )

    def __call__(
        self, tokens: jax.Array, index: jax.Array, epoch: jax.Array, key: jax.Array
    ) -> MaskedBatch:
        """Masks a batch.

        Args:
          tokens: [B, T] int32.
          index: [B] uint32, the record's number in the dataset.
          epoch: [B] uint32, how often the record was seen before.
          key: a jax.random key of the run's seed.

        Returns:
          A MaskedBatch with M = `config.max_masked(T)` slots per row, at most T.
        """
        if self.config.kind == "static":
            epoch = epoch % self.config.num_static_masks
        tokens = tokens.astype(jnp.int32)
        row_keys = jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(key, e), i))(
            epoch, index
        )
        masked = jax.vmap(self._mask_row)(tokens, row_keys)
        if self.start_id is None:
            return masked
        # Text never has the id, so every one of them begins an example.
        segments = jnp.cumsum(tokens == self.start_id, axis=1, dtype=jnp.int32)
        return dataclasses.replace(masked, segments=segments)

    def _mask_row(self, tokens: jax.Array, key: jax.Array) -> MaskedBatch:
        (length,) = tokens.shape
        # A phase of short rows may have fewer tokens than the slots of the long ones.
        num_slots = self.config.max_masked(length)
        place_key, kind_key, token_key = jax.random.split(key, 3)

        maskable = self._maskable(tokens)  # [T]
        count = maskable.sum()
        wanted = jnp.round(self.config.rate * count).astype(jnp.int32)
        wanted = jnp.minimum(jnp.maximum(wanted, 1), count)
        if self.config.whole_words:
            assert self.word_starts, "Masker.of knows where words begin"
            wanted = jnp.minimum(wanted, num_slots)
            begins = word_begins(tokens, jnp.asarray(self.word_starts), self._special())
            chosen = choose_words(begins, maskable, wanted, place_key, most=num_slots)
            # The chosen places from left to right, then the others.
            from_end = length - jnp.arange(length)
            _, positions = jax.lax.top_k(jnp.where(chosen, length, 0) + from_end, num_slots)
            wanted = chosen.sum()
        else:
            # A random order of the places, those that may not be masked last; 24 bits are exact in
            # float32.
            scores = jax.random.bits(place_key, (length,)) >> 8
            _, positions = jax.lax.top_k(
                jnp.where(maskable, scores.astype(jnp.float32), -1.0), num_slots
            )
        weights = (jnp.arange(num_slots) < wanted).astype(jnp.float32)  # [M]

        targets = tokens[positions]  # [M]
        ordinary = self._ordinary_ids()
        drawn = ordinary[jax.random.randint(token_key, (num_slots,), 0, len(ordinary))]
        kind = jax.random.uniform(kind_key, (num_slots,))
        shown = jnp.where(
            kind < self.config.mask_share,
            self.mask_id,
            jnp.where(kind < self.config.mask_share + self.config.random_share, drawn, targets),
        )
        shown = jnp.where(weights > 0, shown, targets)
        return MaskedBatch(tokens.at[positions].set(shown), positions, targets, weights)

    def _maskable(self, tokens: jax.Array) -> jax.Array:
        if self.config.mask_special_tokens:
            return tokens != self.pad_id
        return ~self._special()[tokens]

    def _special(self) -> jax.Array:
        special = np.zeros(self.vocab_size, bool)
        special[list(self.special_ids)] = True
        return jnp.asarray(special)  # [V]

    def _ordinary_ids(self) -> jax.Array:
        return jnp.asarray(np.setdiff1d(np.arange(self.vocab_size), self.special_ids), jnp.int32)
