"""Weights of one model as the beginning of another: other texts, longer rows, other vocabulary."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.config import EncoderConfig, PretrainConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.encoder.model import Params
from roberta_jax.train.workdir import check_same_model

# Settings in which a run may differ from the one whose weights it begins with.
_MAY_DIFFER = (
    "data.tokenizer_fingerprint",
    "encoder.vocab_size",
    "encoder.vocab_padding_multiple",
    "encoder.max_positions",
    "encoder.next_sentence_head",
)
_ROLES = ("bos_id", "pad_id", "eos_id", "unk_id", "mask_id")


def check_transfer(source: Path, stored: PretrainConfig, wanted: PretrainConfig) -> None:
    """Raises UserError if the weights of `stored` cannot begin `wanted`; both are resolved."""
    check_same_model(source, stored, wanted, except_for=_MAY_DIFFER)


def transfer(
    old: Params,
    new: Params,
    *,
    source: EncoderConfig,
    target: EncoderConfig,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    say: Callable[[str], None],
) -> Params:
    """The weights of `old` in the shapes of `new`.

    Positions beyond those of `old` repeat them from the first on. Tokens that both vocabularies
    have keep their row and their bias in the head; the others keep what `new` has drawn, and so
    does a next-sentence head that `old` has not.

    Args:
      old: trained weights, on the mesh.
      new: initial weights, on the mesh, whose shardings the result has.
      source: the encoder of `old`.
      target: the encoder of `new`.
      source_tokenizer: the vocabulary of `old`.
      target_tokenizer: the vocabulary of `new`.
      say: takes a line for everything that is not simply taken over.
    """
    same_tokens = source_tokenizer.fingerprint == target_tokenizer.fingerprint
    if same_tokens and source.vocab_size == target.vocab_size:
        rows, known = _first_rows(source.vocab_size, target)
    else:
        rows, known = _shared_rows(source_tokenizer, target_tokenizer, target)
        shared = int(known.sum())
        say(
            f"another vocabulary: {shared:,} of its {target.vocab_size:,} entries are also in the "
            f"old one and keep their weights; {target.vocab_size - shared:,} begin as drawn"
        )
    if source.next_sentence_head != target.next_sentence_head:
        say(
            "the next-sentence head is left out"
            if source.next_sentence_head
            else "the next-sentence head begins as drawn"
        )
    positions = _position_rows(source, target)
    if source.max_positions != target.max_positions:
        say(
            f"rows of up to {target.max_positions:,} tokens instead of {source.max_positions:,}: "
            + (
                "the position table is repeated"
                if target.max_positions > source.max_positions
                else "the position table is cut"
            )
        )

    def chosen(table: jax.Array, drawn: jax.Array) -> jax.Array:
        taken = table[jnp.asarray(rows)]
        keep = jnp.asarray(known).reshape(-1, *(1,) * (table.ndim - 1))
        return jnp.where(keep, taken, drawn)

    @functools.partial(jax.jit, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, new))
    def moved(old: Params, new: Params) -> Params:
        embedding, head = old["embedding"], old["head"]
        # A head that only one of the two has is left out, or stays as drawn.
        parts = {name: old.get(name, drawn) for name, drawn in new.items()}
        return {
            **parts,
            "embedding": {
                **embedding,
                "token": {
                    "embedding": chosen(
                        embedding["token"]["embedding"], new["embedding"]["token"]["embedding"]
                    )
                },
                "position": {"embedding": embedding["position"]["embedding"][positions]},
            },
            "head": {**head, "bias": chosen(head["bias"], new["head"]["bias"])},
        }

    return moved(old, new)


def _first_rows(vocab_size: int, target: EncoderConfig) -> tuple[np.ndarray, np.ndarray]:
    """The same ids; rows that only pad the table stay as drawn, which is 0."""
    ids = np.arange(target.padded_vocab_size())
    known = ids < vocab_size
    return np.where(known, ids, 0), known


def _shared_rows(
    source: Tokenizer, target: Tokenizer, encoder: EncoderConfig
) -> tuple[np.ndarray, np.ndarray]:
    """For every id of the target's table: the source's id of the same piece, and if there is one.

    Special tokens correspond by their role, whatever they are called.
    """
    rows = np.zeros(encoder.padded_vocab_size(), np.int64)
    known = np.zeros(encoder.padded_vocab_size(), bool)
    source_special, target_special = set(source.special_ids), set(target.special_ids)
    id_of_piece: dict[bytes, int] = {}
    for token_id, piece in enumerate(source.pieces()):
        if token_id not in source_special:
            id_of_piece.setdefault(piece, token_id)
    for token_id, piece in enumerate(target.pieces()):
        if token_id not in target_special and piece in id_of_piece:
            rows[token_id], known[token_id] = id_of_piece[piece], True
    for role in _ROLES:
        rows[getattr(target, role)], known[getattr(target, role)] = getattr(source, role), True
    return rows, known


def _position_rows(source: EncoderConfig, target: EncoderConfig) -> np.ndarray:
    """For every row of the target's position table: the source's row."""
    offset = source.position_offset  # Those before the first position stay where they are.
    places = np.arange(target.max_positions) % source.max_positions
    return np.concatenate([np.arange(offset), offset + places])
