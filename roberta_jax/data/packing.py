"""Examples of different lengths → full rows: best-fit bin packing of a stream.

An example goes into the open row that it leaves the least room in. Many rows stay open, so that a
hole of almost any size is there to be filled.
"""

import numpy as np

from roberta_jax.data.rows import NextSentence, RowCounts

OPEN_ROWS = 512
# `<s>`, a token of text, `</s>`; a row with less room is closed.
SHORTEST_EXAMPLE_TOKENS = 3


class RowPacker:
    """Packs examples into rows; holds at most `open_rows` unfinished rows.

    When none of them has room, the fullest is closed. An example is never divided.
    """

    def __init__(
        self,
        sequence_length: int,
        *,
        bos_id: int,
        pad_id: int,
        counts: RowCounts,
        label_slots: int = 0,
        open_rows: int = OPEN_ROWS,
    ):
        """Rows have `sequence_length` tokens, then `label_slots` labels.

        With labels, a row holds at most `label_slots` examples. Rows, tokens, padding and examples
        are counted in `counts`.
        """
        self.sequence_length = sequence_length
        self.label_slots = label_slots
        self._bos_id, self._pad_id = bos_id, pad_id
        self._counts = counts
        self._open_rows = open_rows
        self._num_open = 0
        # Open rows by the number of tokens that still fit: (row, examples in it).
        self._by_room: list[list[tuple[np.ndarray, int]]] = [[] for _ in range(sequence_length + 1)]
        # Bit n is set if some open row has room for exactly n tokens; a search is one shift.
        self._rooms = 0
        self._closed: list[np.ndarray] = []

    def reserve(self, length: int, label: NextSentence = NextSentence.NONE) -> np.ndarray:
        """Finds a place for an example of `length` tokens.

        Returns:
          int32 [length], the part of the row; it holds `<s>` at its beginning, and the caller
          writes the rest before any other call.
        """
        assert 0 < length <= self.sequence_length, length
        row, num_examples, room = self._best_fit(length)
        start = self.sequence_length - room
        row[start] = self._bos_id
        if self.label_slots:
            row[self.sequence_length + num_examples] = label
        num_examples += 1
        self._counts.examples += 1
        self._counts.tokens += length
        self._put_back(row, num_examples, room - length)
        return row[start : start + length]

    def has_room(self, shortest: int, longest: int) -> bool:
        """Whether an open row has room for at least `shortest` and at most `longest` tokens."""
        return bool((self._rooms >> shortest) & ((1 << max(longest - shortest + 1, 0)) - 1))

    def finish(self) -> None:
        """Closes all rows, the fullest first."""
        while self._rooms:
            self._close(*self._take(0))

    def take_rows(self) -> np.ndarray:
        """The rows closed since the last call, [n, sequence_length + label_slots] int32."""
        rows = self._closed
        self._closed = []
        if not rows:
            return np.empty((0, self.sequence_length + self.label_slots), np.int32)
        return np.stack(rows)

    def _best_fit(self, length: int) -> tuple[np.ndarray, int, int]:
        """The open row with the least sufficient room, else a new one: row, examples, room."""
        if self._rooms >> length:
            return self._take(length)
        if self._num_open == self._open_rows:
            self._close(*self._take(0))
        row = np.full(self.sequence_length + self.label_slots, self._pad_id, np.int32)
        row[self.sequence_length :] = NextSentence.NONE
        return row, 0, self.sequence_length

    def _take(self, length: int) -> tuple[np.ndarray, int, int]:
        """Takes out the row with the least room of at least `length`; there must be one."""
        rooms = self._rooms >> length
        room = length + (rooms & -rooms).bit_length() - 1
        rows = self._by_room[room]
        row, num_examples = rows.pop()
        self._num_open -= 1
        if not rows:
            self._rooms &= ~(1 << room)
        return row, num_examples, room

    def _put_back(self, row: np.ndarray, num_examples: int, room: int) -> None:
        """Keeps a row open, unless nothing more can go into it."""
        if room < SHORTEST_EXAMPLE_TOKENS or num_examples == (self.label_slots or -1):
            self._close(row, num_examples, room)
            return
        self._by_room[room].append((row, num_examples))
        self._rooms |= 1 << room
        self._num_open += 1

    def _close(self, row: np.ndarray, num_examples: int, room: int) -> None:
        self._counts.rows += 1
        self._counts.padding_tokens += room
        self._closed.append(row)
