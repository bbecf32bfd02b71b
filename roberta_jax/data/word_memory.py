"""Words whose ids are known already, as arrays: many are looked up at once."""

from collections.abc import Sequence

import numpy as np

KEY_CHARACTERS = 16  # A word of more characters has no key.
_PER_WORD = 4  # Characters of 16 bits in a uint64.
_FEWEST_SLOTS = 1 << 12
# Odd numbers without a pattern, to mix keys with.
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64
)
_MASKS = np.array([(1 << 16 * i) - 1 for i in range(_PER_WORD + 1)], np.uint64)


class Keys:
    """The words of a text as [n, 4] uint64: 16 characters with zeros behind them.

    Equal keys are equal words, so that a look-up is never wrong.
    """

    def __init__(self, characters: np.ndarray):
        """`characters` are uint16 [n], none of them 2^16 - 1."""
        # Zero is no character here: "a" and "a\0" differ.
        self._padded = np.zeros(len(characters) + KEY_CHARACTERS, np.uint16)
        np.add(characters, 1, out=self._padded[: len(characters)])

    def of(self, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The keys [m, 4] of words of at most `KEY_CHARACTERS`."""
        count = len(self._padded) - _PER_WORD + 1
        windows = np.ndarray((count,), np.uint64, self._padded, strides=(2,))
        keys = np.zeros((len(begins), KEY_CHARACTERS // _PER_WORD), np.uint64)
        keys[:, 0] = windows[begins] & _MASKS[np.minimum(lengths, _PER_WORD)]
        for column in range(1, keys.shape[1]):
            before = column * _PER_WORD
            longer = np.flatnonzero(lengths > before)
            inside = _MASKS[np.minimum(lengths[longer] - before, _PER_WORD)]
            keys[longer, column] = windows[begins[longer] + before] & inside
        return keys


class WordMemory:
    """Ids of words by their keys: a hash table with open addressing, and the ids in one array."""

    def __init__(self) -> None:
        """Knows no word."""
        self._set_up(_FEWEST_SLOTS)
        self._ids = np.zeros(0, np.uint32)  # Of all words, one after the other.
        self._begins = np.zeros(1, np.int64)  # [words + 1]

    def __len__(self) -> int:
        """How many words there are."""
        return len(self._begins) - 1

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        arrays = (self._words, self._keys, self._ids, self._begins)
        return sum(array.nbytes for array in arrays)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The numbers int32 [m] of the words with these keys; -1 for unknown ones."""
        slots = self._first_slots(keys)
        found = self._words[slots]
        pending = np.flatnonzero((found >= 0) & self._differ(slots, keys))
        while len(pending):  # Another word has the slot: the next one, until there is none.
            slots[pending] = (slots[pending] + 1) & (len(self._words) - 1)
            at = slots[pending]
            found[pending] = self._words[at]
            pending = pending[(found[pending] >= 0) & self._differ(at, keys[pending])]
        return found

    def _differ(self, slots: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Whether slots [m] have other keys than these [m, 4]; bool [m]."""
        differences = self._keys.take(slots, axis=0) != keys
        return differences.view(np.uint32)[:, 0] != 0  # Faster than `any` over so few.

    def add(self, keys: np.ndarray, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Takes words that are not there; their numbers int32 [m].

        A word has at least one id. Of words without a key, give none (`keys` has fewer rows): they
        come last, and are found by their number only.
        """
        first = len(self)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = [i for word in ids for i in word]
        self._begins = np.concatenate([self._begins, self._begins[-1] + np.cumsum(lengths)])
        self._ids = np.concatenate([self._ids, np.array(flat, np.uint32)])
        numbers = np.arange(first, first + len(ids), dtype=np.int32)
        self._num_keys += len(keys)
        if 2 * self._num_keys > len(self._words):
            used = self._words >= 0
            old_keys, old_words = self._keys[used], self._words[used]
            self._set_up(2 << self._num_keys.bit_length(), self._num_keys)
            self._place(old_keys, old_words)
        self._place(keys, numbers[: len(keys)])
        return numbers

    def ids_of(self, words: np.ndarray) -> np.ndarray:
        """The ids uint32 [n] of words by their numbers, one after the other."""
        begins = self._begins[words]
        lengths = self._begins[words + 1] - begins
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        if total == len(words):  # One each.
            return self._ids[begins]
        return self._ids[np.repeat(begins - ends + lengths, lengths) + np.arange(total)]

    def _set_up(self, num_slots: int, num_keys: int = 0) -> None:
        self._words = np.full(num_slots, -1, np.int32)  # Number of the word in a slot, or -1.
        self._keys = np.zeros((num_slots, len(_FACTORS)), np.uint64)
        self._num_keys = num_keys

    def _first_slots(self, keys: np.ndarray) -> np.ndarray:
        mixed = keys[:, 0] * _FACTORS[0]
        for column in range(1, keys.shape[1]):
            mixed ^= mixed >> np.uint64(29)
            mixed = (mixed + keys[:, column]) * _FACTORS[column]
        bits = len(self._words).bit_length() - 1
        return (mixed >> np.uint64(64 - bits)).astype(np.int64)

    def _place(self, keys: np.ndarray, numbers: np.ndarray) -> None:
        slots = self._first_slots(keys)
        pending = np.arange(len(keys))
        while len(pending):
            free = pending[self._words[slots[pending]] < 0]
            chosen, firsts = np.unique(slots[free], return_index=True)
            self._words[chosen] = numbers[free[firsts]]
            self._keys[chosen] = keys[free[firsts]]
            pending = np.setdiff1d(pending, free[firsts], assume_unique=True)
            slots[pending] = (slots[pending] + 1) & (len(self._words) - 1)
