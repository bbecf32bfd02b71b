"""Encoding word by word from memory, because a language uses few words often.

GPT-2's pattern cuts text into words that are encoded independently of each other. So the ids of a
word, once known, need no second computation, and a text is a look-up per word: several times faster
than merging bytes every time.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

# Beyond it are scripts without blanks between words, where words hardly repeat, and characters
# younger than the Unicode tables of some Python. A text with such characters is not encoded here.
LAST_CHARACTER = 0x2FFF
# Memory for words and their ids; about 400,000 words of a European language.
MOST_BYTES = 100 << 20
DICT_ENTRY_BYTES = 100
# Unicode's White_Space, as GPT-2's \s; Python's own adds U+001C to U+001F.
_SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f"


def _characters(is_member: Callable[[str], bool]) -> str:
    """The inside of a character class with all members up to LAST_CHARACTER."""
    members = [
        code for code in range(LAST_CHARACTER + 1) if is_member(unicodedata.category(chr(code)))
    ]
    ranges: list[list[int]] = []
    for code in members:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


_LETTERS = _characters(lambda category: category.startswith("L"))
_NUMBERS = _characters(lambda category: category.startswith("N"))
_UNASSIGNED = _characters(lambda category: category == "Cn")
_UNKNOWN = re.compile(f"[{_UNASSIGNED}\\u{LAST_CHARACTER + 1:04x}-\U0010ffff]")
# GPT-2's pattern, the most frequent alternative first: a contraction begins with no letter.
_WORD = re.compile(
    f" ?[{_LETTERS}]+|'(?:s|t|re|ve|m|ll|d)| ?[{_NUMBERS}]+| ?[^{_SPACES}{_LETTERS}{_NUMBERS}]+"
    f"|[{_SPACES}]+(?![^{_SPACES}])|[{_SPACES}]+"
)


class WordEncoder:
    """Encodes text of characters that it knows, with the ids of encoding the text at once."""

    def __init__(self, encode_batch: Callable[[Sequence[str]], list[list[int]]]):
        """`encode_batch` gives the ids of words that are met for the first time."""
        self._encode_batch = encode_batch
        self._ids_of_word: dict[str, bytes] = {}
        self._bytes = 0

    def knows(self, text: str) -> bool:
        """Whether all characters of the text are such as `encode` takes."""
        return text.isascii() or not _UNKNOWN.search(text)

    def encode(self, text: str) -> np.ndarray:
        """Ids uint32 [n] of a text of known characters."""
        words = _WORD.findall(text)
        self._learn(set(words))
        return np.frombuffer(b"".join(map(self._ids_of_word.__getitem__, words)), np.uint32)

    def _learn(self, words: set[str]) -> None:
        if self._bytes > MOST_BYTES:
            self._ids_of_word.clear()  # Frequent words are back at once.
            self._bytes = 0
        missing = [word for word in words if word not in self._ids_of_word]
        for word, ids in zip(missing, self._encode_batch(missing), strict=True):
            data = np.array(ids, np.uint32).tobytes()
            self._ids_of_word[word] = data
            self._bytes += sys.getsizeof(word) + sys.getsizeof(data) + DICT_ENTRY_BYTES
