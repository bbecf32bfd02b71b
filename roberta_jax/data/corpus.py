"""Documents of sentences from files, as a stream in bounded memory.

Plain text: a blank line ends a document, every other line is cut into sentences. JSON lines: every
object is a document, and line breaks inside its text field separate its lines.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence

from roberta_jax.data.inputs import InputFile, InputReader
from roberta_jax.data.sentences import splitter
from roberta_jax.errors import UserError

# A longer document is handed on in pieces of about this size, so that one huge document needs no
# more memory.
PIECE_CHARACTERS = 1 << 15
# A longer line of plain text is cut, at a blank if it has one.
LONGEST_LINE_BYTES = 1 << 20
LONGEST_LINE_CHARACTERS = 1 << 20  # The same for the text of a JSON object.
# A JSON object must be parsed whole, which takes up to 14 times its size.
LONGEST_JSON_BYTES = 1 << 25
BAD_TEXT_RULES = ("error", "replace", "skip")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(slots=True)
class Document:
    """Sentences in their order, or a piece of a long document.

    Attributes:
      sentences: at least one; none has line breaks, or white space at its ends.
      source: file and line of its beginning.
      is_start: False when the sentences go on with the document before.
    """

    sentences: list[str]
    source: str
    is_start: bool = True


@dataclasses.dataclass(slots=True)
class ReadCounts:
    """What a reader has met so far."""

    stored_bytes: int = 0  # Bytes of the files as stored, for progress.
    text_bytes: int = 0  # Bytes of the files, uncompressed.
    replaced: int = 0  # Lines or JSON documents with bad text that was replaced by U+FFFD.
    skipped: int = 0  # Lines or JSON documents left out for their bad text.


def read_documents(
    files: Sequence[InputFile],
    *,
    text_field: str = "text",
    sentence_splitter: str = "line",
    on_bad_text: str = "error",
    counts: ReadCounts | None = None,
) -> Iterator[Document]:
    """Reads all documents of `files` in their order.

    Args:
      files: what `find_files` found.
      text_field: key of the text in JSON lines.
      sentence_splitter: "line" or "punctuation".
      on_bad_text: for text that is not UTF-8: "error", "replace" by U+FFFD, or "skip" the line or
        JSON document.
      counts: is kept up to date while reading.

    Raises:
      UserError: a file is missing, damaged, not UTF-8 (with "error"), or not JSON lines with that
        field. The message names file and line, or byte offset (in the uncompressed text).
    """
    if on_bad_text not in BAD_TEXT_RULES:
        raise UserError(
            f"on_bad_text is {on_bad_text!r}; it must be one of {', '.join(BAD_TEXT_RULES)}."
        )
    split = splitter(sentence_splitter)
    counts = counts if counts is not None else ReadCounts()
    stored_before, text_before = counts.stored_bytes, counts.text_bytes
    for file in files:
        reader = InputReader(file)
        text = _Text(file.path, on_bad_text, counts)
        pieces = (
            _json_pieces(reader, file, text, text_field, split)
            if file.is_json_lines
            else _plain_pieces(reader, file, text, split)
        )
        for piece in pieces:
            counts.stored_bytes = stored_before + reader.stored_bytes_read
            counts.text_bytes = text_before + reader.text_bytes_read
            yield piece
        stored_before += file.bytes
        text_before += reader.text_bytes_read
        counts.stored_bytes, counts.text_bytes = stored_before, text_before


class _Text:
    """Bytes → str by the rule for bad text."""

    def __init__(self, path: str, on_bad_text: str, counts: ReadCounts):
        self._path, self._rule, self._counts = path, on_bad_text, counts

    def decode(self, data: bytes, offset: int) -> str | None:
        """The text, or None when it is to be skipped.

        `offset` is the place of `data` in the file's text.
        """
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"byte {offset + error.start}"
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
                "--on_bad_text=skip (the line or JSON document is left out)."
            )
        if self._rule == "skip":
            self._counts.skipped += 1
            return None
        self._counts.replaced += 1
        return replaced()


def _plain_pieces(
    reader: InputReader, file: InputFile, text: _Text, split: Callable[[str], list[str]]
) -> Iterator[Document]:
    sentences: list[str] = []
    characters, is_start, start_line = 0, True, 1
    for number, offset, line in _whole_characters(reader):
        if not line.strip():
            if sentences:
                yield Document(sentences, f"{file.path}:{start_line}", is_start)
            sentences, characters, is_start = [], 0, True
            continue
        decoded = text.decode(line, offset)
        if decoded is None:
            continue
        if not sentences and is_start:
            start_line = number
        # A line break of another system inside the line is white space, not the end of a sentence's
        # line.
        sentences += split(decoded)
        characters += len(decoded)
        if characters >= PIECE_CHARACTERS and sentences:
            yield Document(sentences, f"{file.path}:{start_line}", is_start)
            sentences, characters, is_start = [], 0, False
    if sentences:
        yield Document(sentences, f"{file.path}:{start_line}", is_start)


def _whole_characters(reader: InputReader) -> Iterator[tuple[int, int, bytes]]:
    """(line number, byte offset, line); a line over the limit is cut, if possible at a blank."""
    number, offset, rest = 1, 0, b""
    for part in reader.lines(LONGEST_LINE_BYTES):
        line = rest + part
        if offset == 0 and line.startswith(BYTE_ORDER_MARK):
            offset, line = len(BYTE_ORDER_MARK), line[len(BYTE_ORDER_MARK) :]
        rest = b""
        if len(part) == LONGEST_LINE_BYTES and not part.endswith(b"\n"):
            cut = line.rfind(b" ") + 1 or _last_character_start(line)
            line, rest = line[:cut], line[cut:]
        yield number, offset, line
        offset += len(line)
        number += line.endswith(b"\n")
    if rest:
        yield number, offset, rest


def _last_character_start(line: bytes) -> int:
    """Where the last character begins.

    Bytes 10xxxxxx continue a character of at most four bytes.
    """
    start = len(line) - 1
    while start > len(line) - 4 and line[start] & 0xC0 == 0x80:
        start -= 1
    return start


def _json_pieces(
    reader: InputReader,
    file: InputFile,
    text: _Text,
    text_field: str,
    split: Callable[[str], list[str]],
) -> Iterator[Document]:
    offset = 0
    for number, line in enumerate(reader.lines(LONGEST_JSON_BYTES), start=1):
        place = f"{file.path}:{number}"
        if len(line) == LONGEST_JSON_BYTES and not line.endswith(b"\n"):
            raise UserError(
                f"{place} has more than {LONGEST_JSON_BYTES >> 20} MiB in one JSON object; write "
                "it as several documents."
            )
        if number == 1 and line.startswith(BYTE_ORDER_MARK):
            offset, line = len(BYTE_ORDER_MARK), line[len(BYTE_ORDER_MARK) :]
        decoded = text.decode(line, offset)
        offset += len(line)
        if decoded is None or not decoded.strip():
            continue
        content = text.without_surrogates(_text_of(decoded, place, text_field), f"line {number}")
        if content is not None:
            yield from _pieces_of(content, place, split)


def _text_of(line: str, place: str, text_field: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{place} is not JSON ({error}). Every line must be one JSON object."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{place} is a JSON {type(value).__name__}. Every line must be one JSON object."
        )
    if text_field not in value:
        raise UserError(
            f"{place} has no field {text_field!r}; it has {', '.join(map(repr, value)) or 'none'}. "
            "--text_field names the field with the text."
        )
    content = value[text_field]
    if not isinstance(content, str):
        raise UserError(
            f"{place}: the field {text_field!r} holds a {type(content).__name__}; it must hold a "
            "text."
        )
    return content


def _pieces_of(content: str, place: str, split: Callable[[str], list[str]]) -> Iterator[Document]:
    sentences: list[str] = []
    characters, is_start = 0, True
    for line in _lines_of(content):
        sentences += split(line)
        characters += len(line)
        if characters >= PIECE_CHARACTERS and sentences:
            yield Document(sentences, place, is_start)
            sentences, characters, is_start = [], 0, False
    if sentences:
        yield Document(sentences, place, is_start)


def _lines_of(content: str) -> Iterator[str]:
    """The lines of a text; one over the limit is cut, if possible at a blank."""
    start = 0
    while start < len(content):
        limit = start + LONGEST_LINE_CHARACTERS
        end = content.find("\n", start, limit + 1)
        if end < 0 and limit < len(content):
            end = content.rfind(" ", start + 1, limit)
            end = limit if end < 0 else end
            yield content[start:end]
            start = end
        else:
            end = len(content) if end < 0 else end
            yield content[start:end]
            start = end + 1
