"""Sentences of token ids → rows of one length (RoBERTa's FULL-SENTENCES).

A row is `<s>`, then whole sentences, each followed by `</s>`, then padding. Rows go on across
documents; a document border inside a row adds one more `</s>`. A row ends where the next sentence
does not fit.
"""

import dataclasses

import numpy as np

from roberta_jax.errors import UserError

SHORTEST_ROW_TOKENS = 8
# The beginning of an over-long sentence goes into the current row only if at least so many of its
# tokens fit.
SHORTEST_PIECE_TOKENS = 8


@dataclasses.dataclass(slots=True)
class RowCounts:
    """What went into the rows of one split; `tokens` are all but padding, special ones included."""

    rows: int = 0
    tokens: int = 0
    padding_tokens: int = 0
    documents: int = 0
    sentences: int = 0
    over_long_sentences: int = 0


class FullSentencesPacker:
    """Packs a stream of documents; holds one unfinished row and nothing else."""

    def __init__(self, sequence_length: int, *, bos_id: int, pad_id: int, eos_id: int):
        """Rows have `sequence_length` tokens.

        Raises UserError when that is too short for any sentence.
        """
        if sequence_length < SHORTEST_ROW_TOKENS:
            raise UserError(
                f"sequence_length is {sequence_length}; it must be at least {SHORTEST_ROW_TOKENS} "
                "tokens."
            )
        self.sequence_length = sequence_length
        self.counts = RowCounts()
        self._bos_id, self._pad_id, self._eos_id = bos_id, pad_id, eos_id
        self._row = self._empty_row()
        self._used = 1
        self._finished: list[np.ndarray] = []

    def add(self, ids: np.ndarray, *, starts_document: bool = True) -> None:
        """Takes the next sentences of the corpus.

        Args:
          ids: integers [n], every sentence followed by `</s>`.
          starts_document: False when the sentences go on with the document of the call before.
        """
        ends = np.flatnonzero(ids == self._eos_id) + 1  # [sentences]
        assert (ends[-1] if len(ends) else 0) == len(ids), "the last sentence lacks its </s>"
        if starts_document and len(ends):
            self.counts.documents += 1
            if 1 < self._used < self.sequence_length:
                self._append(np.array([self._eos_id]))
        self.counts.sentences += len(ends)
        longest = self.sequence_length - 1
        start, sentence = 0, 0  # The first token and the first sentence that are in no row yet.
        cutting = -1
        while sentence < len(ends):
            room = self.sequence_length - self._used
            fitting = int(np.searchsorted(ends, start + room, side="right"))
            if fitting > sentence:
                self._append(ids[start : ends[fitting - 1]])
                start, sentence = int(ends[fitting - 1]), fitting
                continue
            if ends[sentence] - start > longest and (
                room > SHORTEST_PIECE_TOKENS or self._used == 1
            ):
                self.counts.over_long_sentences += cutting != sentence
                cutting = sentence
                self._append(ids[start : start + room - 1])
                self._append(np.array([self._eos_id]))
                start += room - 1
            self._close_row()

    def finish(self) -> None:
        """Closes the last row."""
        if self._used > 1:
            self._close_row()

    def take_rows(self) -> np.ndarray:
        """The rows closed since the last call, [n, sequence_length] int32."""
        rows = self._finished
        self._finished = []
        return np.stack(rows) if rows else np.empty((0, self.sequence_length), np.int32)

    def _append(self, ids: np.ndarray) -> None:
        self._row[self._used : self._used + len(ids)] = ids
        self._used += len(ids)

    def _close_row(self) -> None:
        self.counts.rows += 1
        self.counts.tokens += self._used
        self.counts.padding_tokens += self.sequence_length - self._used
        self._finished.append(self._row)
        self._row = self._empty_row()
        self._used = 1

    def _empty_row(self) -> np.ndarray:
        row = np.full(self.sequence_length, self._pad_id, np.int32)
        row[0] = self._bos_id
        return row
