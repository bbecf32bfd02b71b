"""What happens to text that is not UTF-8, by the rule that the user chose; and the counts of it."""

import dataclasses
from collections.abc import Callable

from roberta_jax.errors import UserError

BAD_TEXT_RULES = ("error", "replace", "skip")


@dataclasses.dataclass(slots=True)
class ReadCounts:
    """What a reader has met so far."""

    stored_bytes: int = 0  # Bytes of the files as stored, for progress.
    text_bytes: int = 0  # Bytes of the text, uncompressed.
    replaced: int = 0  # Lines or documents with bad text that was replaced by U+FFFD.
    skipped: int = 0  # Lines or documents left out for their bad text.
    special_names: int = 0  # Places where the text spells a special token, such as "<mask>".
    duplicates: int = 0  # Documents left out because they are there already.


class BadTextRule:
    """Bytes → str by the rule for bad text."""

    def __init__(self, path: str, on_bad_text: str, counts: ReadCounts):
        """`path` is what messages name; `counts` is kept up to date."""
        self._path, self._rule, self._counts = path, on_bad_text, counts

    def decode(self, data: bytes, offset: int, unit: str = "byte") -> str | None:
        """The text, or None when it is to be skipped.

        `offset` is the place of `data` in the file's text; with another `unit` than bytes, the
        number of the record.
        """
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"{unit} {offset + error.start if unit == 'byte' else offset}"
            return self._mend(place, lambda: data.decode("utf-8", errors="replace"))

    def without_surrogates(self, text: str, place: str) -> str | None:
        """JSON escapes can spell half a surrogate pair, which is no text either."""
        try:
            text.encode("utf-8")
            return text
        except UnicodeEncodeError:
            return self._mend(
                place,
                lambda: text.encode("utf-16", "surrogatepass").decode("utf-16", errors="replace"),
            )

    def _mend(self, place: str, replaced: Callable[[], str]) -> str | None:
        if self._rule == "error":
            raise UserError(
                f"{self._path} is not valid UTF-8 at {place}. Convert the file, or choose "
                "--on_bad_text=replace (U+FFFD takes the place of bad bytes) or "
                "--on_bad_text=skip (the line or document is left out)."
            )
        if self._rule == "skip":
            self._counts.skipped += 1
            return None
        self._counts.replaced += 1
        return replaced()
