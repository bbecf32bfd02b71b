"""What every input format gives: rows of token ids, labels beside them, and counts.

A row holds one or several inputs ("examples"), each beginning with `<s>`, with nothing between
them, then padding. Text never yields `<s>`, so the rows alone say where an example begins.
"""

import dataclasses
import enum
from typing import Protocol

import numpy as np

from roberta_jax.errors import UserError

SHORTEST_ROW_TOKENS = 8
# The beginning of an over-long sentence goes into the current example only if at least so many of
# its tokens fit.
SHORTEST_PIECE_TOKENS = 8


class NextSentence(enum.IntEnum):
    """What the second segment of an example is.

    Published implementations disagree about the number of "next" (0 in BERT's, 1 in fairseq's), so
    only names are used.
    """

    NONE = 0  # There is no such example: the slot is not used.
    NEXT = 1  # It follows the first segment in the document.
    RANDOM = 2  # It comes from another document.


@dataclasses.dataclass(slots=True)
class RowCounts:
    """What went into the rows of one split.

    `tokens` are all but padding, special ones included. Tokens of text in the rows are those that
    came in, plus `repeated_tokens`, less `truncated_tokens`.
    """

    rows: int = 0
    tokens: int = 0
    padding_tokens: int = 0
    documents: int = 0
    sentences: int = 0
    over_long_sentences: int = 0  # Divided over examples, or cut off where segments are paired.
    examples: int = 0  # Inputs; several share a row where rows are packed.
    next_pairs: int = 0
    random_pairs: int = 0
    truncated_tokens: int = 0  # Of text, cut off at their own place in the document.
    repeated_tokens: int = 0  # Of text, standing a second time as a random second segment.


class Packer(Protocol):
    """A stream of documents → rows.

    Attributes:
      counts: what came in and what went into rows; complete after `finish`.
      label_slots: columns of labels that follow the tokens of a row; 0 in formats without pairs.
    """

    counts: RowCounts
    label_slots: int

    def add(self, ids: np.ndarray, *, starts_document: bool = True) -> None:
        """Takes the next sentences of the corpus.

        Args:
          ids: integers [n], every sentence followed by `</s>`; n may be 0.
          starts_document: False when the sentences go on with the document of the call before.
        """

    def finish(self) -> None:
        """Closes the last rows; another call does nothing."""

    def take_rows(self) -> np.ndarray:
        """The rows closed since the last call, [n, sequence_length + label_slots] int32.

        The last `label_slots` columns are `NextSentence` values, one for each example of the row in
        their order, then NONE.
        """


def segment_ids(tokens: np.ndarray, *, bos_id: int, pad_id: int) -> np.ndarray:
    """Which example of its row a token belongs to.

    Args:
      tokens: integers [..., sequence_length], without the columns of labels.
      bos_id: `<s>`, with which every example begins.
      pad_id: padding, at the end of a row.

    Returns:
      int32 [..., sequence_length]: 1, 2, … by example, 0 for padding.
    """
    examples = np.cumsum(tokens == bos_id, axis=-1, dtype=np.int32)
    return np.where(tokens == pad_id, np.int32(0), examples)


def sentence_ends(ids: np.ndarray, eos_id: int) -> np.ndarray:
    """Where the sentences of `ids` end, their `</s>` included: integers [sentences]."""
    ends = np.flatnonzero(ids == eos_id) + 1
    assert (ends[-1] if len(ends) else 0) == len(ids), "the last sentence lacks its </s>"
    return ends


def without_empty_sentences(ids: np.ndarray, eos_id: int) -> np.ndarray:
    """The ids [n] without sentences of `</s>` alone, which a vocabulary makes of invisible text.

    Two `</s>` in a row would look like the border of a document.
    """
    is_end = ids == eos_id
    is_empty = is_end & np.concatenate([[True], is_end[:-1]])
    return ids[~is_empty] if is_empty.any() else ids


def check_sequence_length(sequence_length: int, shortest: int) -> None:
    """Raises UserError when rows of `sequence_length` tokens are shorter than `shortest`."""
    if sequence_length < shortest:
        raise UserError(
            f"sequence_length is {sequence_length}; it must be at least {shortest} tokens."
        )
