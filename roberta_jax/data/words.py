"""Encoding word by word from memory, because a language uses few words often.

GPT-2's pattern cuts text into words that are encoded independently of each other. So the ids of a
word, once known, need no second computation, and a text is a look-up per word. Cuts and look-ups
are made for a whole text at once, on arrays: many times faster than merging bytes every time.
"""

from collections.abc import Callable, Sequence

import numpy as np
from tokenizers import Regex, normalizers

from roberta_jax.data.word_memory import KEY_CHARACTERS, Keys, WordMemory

# Beyond it are scripts without blanks between words, where words hardly repeat (a few are before
# it), and emoji. A text with such characters is not encoded here.
LAST_CHARACTER = 0x2FFF
# Of memory for words and their ids; enough for about 500,000 words of a European language.
MOST_BYTES = 80 << 20
LOOKED_UP_AT_ONCE = 1 << 16  # Words: once these are learnt, few of the next ones are new.
LONGEST_WORD = 64  # Characters; a longer one hardly comes again.
MOST_LONG_WORDS = 1 << 17  # That have no keys.
_OTHER, _LETTER, _NUMBER, _SPACE = range(4)


def _kinds() -> np.ndarray:
    """The kind of every character up to LAST_CHARACTER; uint8 [LAST_CHARACTER + 1].

    By the tables of the library that cuts otherwise: Python's are of another version of Unicode.
    """
    every = "".join(map(chr, range(LAST_CHARACTER + 1)))
    kinds = np.full(len(every), _OTHER, np.uint8)
    for pattern, kind in ((r"\p{L}", _LETTER), (r"\p{N}", _NUMBER), (r"\s", _SPACE)):
        others = normalizers.Replace(Regex(pattern), "").normalize_str(every)
        kinds[np.setdiff1d(np.arange(len(every)), [ord(c) for c in others])] = kind
    return kinds


_KINDS = _kinds()
_BLANK, _APOSTROPHE = ord(" "), ord("'")
_IS_SHORT_ENDING = np.isin(np.arange(LAST_CHARACTER + 1), [ord(c) for c in "stmd"])


def word_begins(characters: np.ndarray) -> np.ndarray:
    r"""Where GPT-2's pattern cuts a text; int64 [words].

    It is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.

    Args:
      characters: uint16 [n], known ones.
    """
    kinds = _KINDS[characters]
    begins = np.ones(len(characters), bool)
    np.not_equal(kinds[1:], kinds[:-1], out=begins[1:])
    # White space before something else: its last character is cut off, and a blank joins what
    # follows.
    last = np.flatnonzero(begins[1:] & (kinds[:-1] == _SPACE))
    begins[last] = True
    begins[last[characters[last] == _BLANK] + 1] = False
    # A contraction begins with an apostrophe that begins a word.
    marks = np.flatnonzero(characters == _APOSTROPHE)
    marks = marks[begins[marks]]
    if len(marks):
        padded = np.concatenate([characters, np.zeros(4, characters.dtype)])
        first, second = padded[marks + 1], padded[marks + 2]
        longer = ((first == ord("r")) | (first == ord("v"))) & (second == ord("e"))
        longer |= (first == ord("l")) & (second == ord("l"))
        for found, length in ((_IS_SHORT_ENDING[first], 2), (longer, 3)):
            begins[marks[found] + 1] = False
            ends = marks[found] + length
            begins[ends[ends < len(begins)]] = True
    return np.flatnonzero(begins)


class WordEncoder:
    """Encodes text of characters that it knows, with the ids of encoding the text at once."""

    def __init__(self, encode_batch: Callable[[Sequence[str]], list[list[int]]]):
        """`encode_batch` gives the ids of words that are met for the first time."""
        self._encode_batch = encode_batch
        self._forget()

    def knows(self, text: str) -> bool:
        """Whether all characters of the text are such as `encode` takes."""
        if text.isascii():
            return True
        # A character outside of Unicode's first plane is two units, and both are beyond the last.
        units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)
        return bool(units.max() <= LAST_CHARACTER)

    def encode(self, text: str) -> np.ndarray:
        """Ids uint32 [n] of a text of known characters."""
        if self._memory.bytes > MOST_BYTES or len(self._long) > MOST_LONG_WORDS:
            self._forget()  # Frequent words are back at once.
        if not text:
            return np.zeros(0, np.uint32)
        characters = np.frombuffer(text.encode("utf-16-le"), np.uint16)
        begins = word_begins(characters)
        lengths = np.diff(begins, append=len(characters))
        words = np.empty(len(begins), np.int32)
        is_short = lengths <= KEY_CHARACTERS
        short = np.flatnonzero(is_short)
        keys = Keys(characters)
        for first in range(0, len(short), LOOKED_UP_AT_ONCE):
            some = short[first : first + LOOKED_UP_AT_ONCE]
            words[some] = self._short_words(text, keys, begins[some], lengths[some])
        long = np.flatnonzero(~is_short)
        words[long] = self._long_words(
            [text[begins[i] : begins[i] + lengths[i]] for i in long.tolist()]
        )
        return self._memory.ids_of(words)

    def _short_words(
        self, text: str, characters: Keys, begins: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """The numbers of words that have keys."""
        keys = characters.of(begins, lengths)
        found = self._memory.find(keys)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            new = {  # Word → one place where it stands.
                text[begin : begin + length]: place
                for place, begin, length in zip(
                    missing.tolist(),
                    begins[missing].tolist(),
                    lengths[missing].tolist(),
                    strict=True,
                )
            }
            self._memory.add(keys[list(new.values())], self._encode_batch(list(new)))
            found[missing] = self._memory.find(keys[missing])
        return found

    def _long_words(self, words: list[str]) -> list[int]:
        """The numbers of words that are too long for keys."""
        if not words:
            return []
        new = [word for word in dict.fromkeys(words) if word not in self._long]
        numbers = self._memory.add(_NO_KEYS, self._encode_batch(new)).tolist()
        here = dict(zip(new, numbers, strict=True))
        self._long.update((word, i) for word, i in here.items() if len(word) <= LONGEST_WORD)
        return [here[word] if word in here else self._long[word] for word in words]

    def _forget(self) -> None:
        self._memory = WordMemory()
        self._long: dict[str, int] = {}  # Words without keys.


_NO_KEYS = np.zeros((0, KEY_CHARACTERS // 4), np.uint64)
