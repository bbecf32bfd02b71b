"""Lines of text → sentences: as they are, by a quick rule, or by the rules of a language."""

import functools
import re
from collections.abc import Callable

import sentencex

from roberta_jax.errors import UserError

# After . ! or ?, closing quotes and brackets, and white space; before an upper-case letter, a digit
# or an opening quote. It also cuts after abbreviations ("Mr. Smith"), which costs a separator and
# loses nothing.
_BORDER = re.compile(r"""(?<=[.!?])(["'”’)\]]*)\s+(?=["'“‘(\[]*[^\W_a-z])""")


def whole_line(line: str) -> list[str]:
    """The line itself, without white space at its ends; nothing for a blank line."""
    line = line.strip()
    return [line] if line else []


def by_punctuation(line: str) -> list[str]:
    """The sentences of a line, cut where `_BORDER` says so."""
    line = line.strip()
    sentences = []
    start = 0
    for border in _BORDER.finditer(line):
        # The rule for letters is "not lower case", which also keeps scripts without case in one
        # piece with the rest.
        if line[border.end()].islower():
            continue
        sentences.append(line[start : border.end(1)])
        start = border.end()
    if start < len(line):
        sentences.append(line[start:])
    return sentences


def by_rules(line: str, *, language: str) -> list[str]:
    """The sentences of a line by the rules of sentencex: abbreviations, quotations, numbers.

    `language` is a code such as "en", "ko" or "zh"; one that sentencex does not know gets its rules
    for punctuation of any script.
    """
    # The library stumbles over a capital before a blank that is not U+0020: it gets a line of plain
    # ones, and says how long the sentences are.
    sentences, start = [], 0
    for part in sentencex.segment(language, _BLANK.sub(" ", line)):
        sentence = line[start : start + len(part)].strip()
        start += len(part)
        if sentence:
            sentences.append(sentence)
    return sentences


_BLANK = re.compile(r"\s")
SPLITTERS = ("line", "punctuation", "rules")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")


def splitter(name: str, language: str = "en") -> Callable[[str], list[str]]:
    """The function for a name in `SPLITTERS`.

    Raises:
      UserError: there is none of that name, or `language` is no code of a language.
    """
    if name not in SPLITTERS:
        raise UserError(f"sentence_splitter is {name!r}; it must be one of {', '.join(SPLITTERS)}.")
    if not _LANGUAGE.fullmatch(language):
        raise UserError(f"language is {language!r}; it must be a code such as en, ko or zh.")
    if name == "rules":
        return functools.partial(by_rules, language=language)
    return whole_line if name == "line" else by_punctuation
