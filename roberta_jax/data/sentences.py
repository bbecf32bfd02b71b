"""Lines of text → sentences, by a quick rule."""

import re
from collections.abc import Callable

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


SPLITTERS: dict[str, Callable[[str], list[str]]] = {
    "line": whole_line,
    "punctuation": by_punctuation,
}


def splitter(name: str) -> Callable[[str], list[str]]:
    """The function for a name in `SPLITTERS`; raises UserError for another."""
    if name not in SPLITTERS:
        raise UserError(f"sentence_splitter is {name!r}; it must be one of {', '.join(SPLITTERS)}.")
    return SPLITTERS[name]
