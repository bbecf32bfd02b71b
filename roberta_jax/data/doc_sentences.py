"""RoBERTa's DOC-SENTENCES: whole sentences of one document, several examples to a row.

An example is `<s>`, then sentences, each followed by `</s>`; it ends where the next sentence does
not fit or the document ends. The paper (section 4.2) evens out the short examples with larger
batches; here they share rows, which keeps the shapes fixed.
"""

import numpy as np

from roberta_jax.data.packing import SHORTEST_EXAMPLE_TOKENS, RowPacker
from roberta_jax.data.rows import (
    SHORTEST_PIECE_TOKENS,
    SHORTEST_ROW_TOKENS,
    RowCounts,
    check_sequence_length,
    sentence_ends,
)

# A long example that ends because the next sentence does not fit leaves a hole in its row. In a
# corpus of long documents hardly any example is short enough for it: 5% of the rows made of books
# would be padding at 512 tokens. So an example may also end early, if it then fills such a hole of
# another row and leaves at most so many tokens of it. Holes from a sixteenth to a quarter of a row
# are filled this way (half of that padding goes, and 2% of the text has little context); what fits
# into smaller ones would be read with hardly any context.
MOST_TOKENS_LEFT = 1


class DocSentencesPacker:
    """Packs a stream of documents; holds less than a row of text, and the open rows."""

    def __init__(self, sequence_length: int, *, bos_id: int, pad_id: int, eos_id: int):
        """Rows have `sequence_length` tokens.

        Raises UserError when that is too short for any sentence.
        """
        check_sequence_length(sequence_length, SHORTEST_ROW_TOKENS)
        self.counts = RowCounts()
        self.label_slots = 0
        self._eos_id = eos_id
        self._longest = sequence_length - 1  # Tokens of an example behind its `<s>`.
        self._shortest_filler = max(sequence_length // 16, SHORTEST_EXAMPLE_TOKENS)
        self._longest_filler = sequence_length // 4
        self._rows = RowPacker(sequence_length, bos_id=bos_id, pad_id=pad_id, counts=self.counts)
        self._at_border = False
        # The end of the current document, at most an example, which more of it may follow.
        self._waiting = np.empty(0, np.int32)

    def add(self, ids: np.ndarray, *, starts_document: bool = True) -> None:
        """Takes the next sentences of the corpus; see `Packer`."""
        self._at_border |= starts_document
        if not len(ids):
            return
        if self._at_border:
            self._at_border = False
            self._place_waiting()
            self.counts.documents += 1
        num_waiting = len(self._waiting)
        ids = np.concatenate([self._waiting, ids.astype(np.int32)])
        ends = sentence_ends(ids, self._eos_id)
        self.counts.sentences += len(ends) - int(np.searchsorted(ends, num_waiting, side="right"))
        self._waiting = ids[self._place(ids, ends) :].copy()

    def finish(self) -> None:
        """Closes the last rows."""
        self._place_waiting()
        self._rows.finish()

    def take_rows(self) -> np.ndarray:
        """The rows closed since the last call, [n, sequence_length] int32."""
        return self._rows.take_rows()

    def _place(self, ids: np.ndarray, ends: np.ndarray) -> int:
        """Puts examples into rows while more than one example is there; where the rest begins."""
        start, sentence = 0, 0  # The first token and the first sentence that are in no example yet.
        cutting = -1
        while len(ids) - start > self._longest:
            after = self._filler(ends, sentence, start)
            if after > sentence:
                stop = int(ends[after - 1])
                self._put(ids[start:stop])
                start, sentence = stop, after
                continue
            after = int(np.searchsorted(ends, start + self._longest, side="right"))
            stop = int(ends[after - 1]) if after > sentence else start
            room = self._longest - (stop - start)
            if ends[after] - stop > self._longest and (
                room > SHORTEST_PIECE_TOKENS or stop == start
            ):
                self.counts.over_long_sentences += cutting != after
                cutting = after
                stop += room - 1
                self._put(np.append(ids[start:stop], self._eos_id))
            else:
                self._put(ids[start:stop])
            start, sentence = stop, after
        return start

    def _filler(self, ends: np.ndarray, sentence: int, start: int) -> int:
        """The sentence behind the longest filler of a hole that begins at `start`.

        That is `sentence` itself when there is no such filler.
        """
        if not self._rows.has_room(self._shortest_filler, self._longest_filler):
            return sentence
        last = int(np.searchsorted(ends, start + self._longest_filler - 1, side="right"))
        for after in range(last, sentence, -1):
            length = 1 + int(ends[after - 1]) - start
            if length < self._shortest_filler:
                break
            if self._rows.has_room(length, length + MOST_TOKENS_LEFT):
                return after
        return sentence

    def _place_waiting(self) -> None:
        if len(self._waiting):
            self._put(self._waiting)
            self._waiting = self._waiting[:0]

    def _put(self, sentences: np.ndarray) -> None:
        """Makes an example of sentences, int32 [n], and puts it into a row."""
        self._rows.reserve(1 + len(sentences))[1:] = sentences
