"""The input formats of the paper's section 4.2 by name, and FULL-SENTENCES.

A row of FULL-SENTENCES is `<s>`, then whole sentences, each followed by `</s>`, then padding. Rows
go on across documents; a document border inside a row adds one more `</s>`, or, where documents are
isolated, begins another example. A row ends where the next sentence does not fit.
"""

from collections.abc import Sequence

import numpy as np

from roberta_jax.data.doc_sentences import DocSentencesPacker
from roberta_jax.data.pairs import PairPacker
from roberta_jax.data.rows import (
    SHORTEST_PIECE_TOKENS,
    SHORTEST_ROW_TOKENS,
    Packer,
    RowCounts,
    check_sequence_length,
    sentence_ends,
)
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError

FORMATS = ("full_sentences", "doc_sentences", "segment_pair", "sentence_pair")


def make_packer(
    format: str,
    sequence_length: int,
    tokenizer: Tokenizer,
    *,
    isolate_documents: bool = False,
    short_sequence_probability: float = 0.1,
    key: Sequence[int] = (0,),
) -> Packer:
    """The packer of a format.

    Args:
      format: one of `FORMATS`.
      sequence_length: tokens of a row.
      tokenizer: whose special ids are used, and whether two `</s>` stand between segments.
      isolate_documents: in "full_sentences", a document border inside a row begins an example; the
        examples of the other formats hold one document anyway, but for random second segments.
      short_sequence_probability: of the documents of "segment_pair".
      key: the choices of the pair formats are a function of it and of the documents.

    Raises:
      UserError: one of them cannot be used.
    """
    if format not in FORMATS:
        raise UserError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}.")
    if isolate_documents and format != "full_sentences":
        raise UserError(
            f"isolate_documents is for the format full_sentences; {format} keeps documents apart "
            "anyway. Leave it out."
        )
    bos_id, pad_id, eos_id = tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id
    if format == "full_sentences":
        return FullSentencesPacker(
            sequence_length,
            bos_id=bos_id,
            pad_id=pad_id,
            eos_id=eos_id,
            isolate_documents=isolate_documents,
        )
    if format == "doc_sentences":
        return DocSentencesPacker(sequence_length, bos_id=bos_id, pad_id=pad_id, eos_id=eos_id)
    return PairPacker(
        sequence_length,
        bos_id=bos_id,
        pad_id=pad_id,
        eos_id=eos_id,
        double_separator=tokenizer.double_separator,
        single_sentences=format == "sentence_pair",
        short_sequence_probability=short_sequence_probability,
        key=key,
    )


class FullSentencesPacker:
    """Packs a stream of documents; holds one unfinished row and nothing else."""

    def __init__(
        self,
        sequence_length: int,
        *,
        bos_id: int,
        pad_id: int,
        eos_id: int,
        isolate_documents: bool = False,
    ):
        """Rows have `sequence_length` tokens; isolated documents are examples of their own.

        Raises UserError when rows are too short for any sentence.
        """
        check_sequence_length(sequence_length, SHORTEST_ROW_TOKENS)
        self.sequence_length = sequence_length
        self.counts = RowCounts()
        self.label_slots = 0
        self._isolate_documents = isolate_documents
        self._at_border = False
        self._bos_id, self._pad_id, self._eos_id = bos_id, pad_id, eos_id
        self._row = self._empty_row()
        self._used = 1
        self._finished: list[np.ndarray] = []

    def add(self, ids: np.ndarray, *, starts_document: bool = True) -> None:
        """Takes the next sentences of the corpus; see `Packer`."""
        ends = sentence_ends(ids, self._eos_id)
        self._at_border |= starts_document
        if self._at_border and len(ends):
            self._at_border = False
            self.counts.documents += 1
            if 1 < self._used < self.sequence_length:
                self._write_border(int(ends[0]))
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

    def _write_border(self, next_tokens: int) -> None:
        """Divides documents inside a row; the next sentence has `next_tokens`, with its `</s>`."""
        if not self._isolate_documents:
            self._append(np.array([self._eos_id]))
            return
        room = self.sequence_length - self._used - 1  # Behind the `<s>`.
        is_over_long = next_tokens > self.sequence_length - 1
        if room > SHORTEST_PIECE_TOKENS if is_over_long else room >= next_tokens:
            self._append(np.array([self._bos_id]))
            self.counts.examples += 1
        else:
            self._close_row()

    def _append(self, ids: np.ndarray) -> None:
        self._row[self._used : self._used + len(ids)] = ids
        self._used += len(ids)

    def _close_row(self) -> None:
        self.counts.rows += 1
        self.counts.examples += 1  # The one that the row begins with.
        self.counts.tokens += self._used
        self.counts.padding_tokens += self.sequence_length - self._used
        self._finished.append(self._row)
        self._row = self._empty_row()
        self._used = 1

    def _empty_row(self) -> np.ndarray:
        row = np.full(self.sequence_length, self._pad_id, np.int32)
        row[0] = self._bos_id
        return row
