"""Documents of sentences from files, as a stream in bounded memory.

Plain text: a blank line ends a document (or every line does, or the file), every other line is cut
into sentences. JSON lines, Parquet and TFDS: every object, row or record is a document, and line
breaks inside its text field separate its lines.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence

from roberta_jax.data.bad_text import BAD_TEXT_RULES, BadTextRule, ReadCounts
from roberta_jax.data.inputs import InputFile, InputReader, Span
from roberta_jax.data.parquet import ParquetReader
from roberta_jax.data.sentences import splitter
from roberta_jax.data.tfds_source import TfdsReader
from roberta_jax.errors import UserError

# A longer document is handed on in pieces of about this size, so that one huge document needs no
# more memory.
PIECE_CHARACTERS = 1 << 15
# A longer line of plain text is cut, at a blank if it has one.
LONGEST_LINE_BYTES = 1 << 20
LONGEST_LINE_CHARACTERS = 1 << 20  # The same for the text of a JSON object.
# A JSON object must be parsed whole, which takes up to 14 times its size.
LONGEST_JSON_BYTES = 1 << 25
PLAIN_TEXT_DOCUMENTS = ("blank_line", "line", "file")
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


def read_documents(
    spans: Sequence[InputFile | Span],
    *,
    text_field: str = "text",
    sentence_splitter: str = "line",
    language: str = "en",
    plain_text_documents: str = "blank_line",
    on_bad_text: str = "error",
    counts: ReadCounts | None = None,
) -> Iterator[Document]:
    """Reads all documents of `spans` in their order.

    Args:
      spans: files that `find_files` found, or parts of them.
      text_field: key of the text in JSON lines, column in Parquet, feature in TFDS.
      sentence_splitter: a name in `sentences.SPLITTERS`.
      language: code of the language whose rules "rules" follows.
      plain_text_documents: what is a document in plain text: what stands between blank lines
        ("blank_line"), every "line", or the whole "file".
      on_bad_text: for text that is not UTF-8: "error", "replace" by U+FFFD, or "skip" the line or
        document.
      counts: is kept up to date while reading.

    Raises:
      UserError: a file is missing, damaged, not UTF-8 (with "error"), or has no such field. The
        message names file and line, or byte offset (in the uncompressed text).
    """
    if on_bad_text not in BAD_TEXT_RULES:
        raise UserError(
            f"on_bad_text is {on_bad_text!r}; it must be one of {', '.join(BAD_TEXT_RULES)}."
        )
    if plain_text_documents not in PLAIN_TEXT_DOCUMENTS:
        raise UserError(
            f"plain_text_documents is {plain_text_documents!r}; it must be one of "
            f"{', '.join(PLAIN_TEXT_DOCUMENTS)}."
        )
    split = splitter(sentence_splitter, language)
    counts = counts if counts is not None else ReadCounts()
    stored_before, text_before = counts.stored_bytes, counts.text_bytes
    for item in spans:
        span = Span.whole(item) if isinstance(item, InputFile) else item
        rule = BadTextRule(span.file.path, on_bad_text, counts)
        reader: InputReader | ParquetReader | TfdsReader
        if span.file.is_parquet:
            reader = table = ParquetReader(span, text_field, rule)
            pieces = _text_pieces(table.texts(), split)
        elif span.file.is_tfds:
            reader = records = TfdsReader(
                span.file.path, span.begin, span.end, feature=text_field, rule=rule
            )
            pieces = _text_pieces(records.texts(), split)
        else:
            reader = lines = InputReader(span)
            pieces = (
                _json_pieces(lines, span, rule, text_field, split)
                if span.file.is_json_lines
                else _plain_pieces(lines, span, rule, plain_text_documents, split)
            )
        for piece in pieces:
            counts.stored_bytes = stored_before + min(reader.stored_bytes_read, span.bytes)
            counts.text_bytes = text_before + reader.text_bytes_read
            yield piece
        stored_before += span.bytes
        text_before += reader.text_bytes_read
        counts.stored_bytes, counts.text_bytes = stored_before, text_before


def _text_pieces(
    texts: Iterator[tuple[str, str]], split: Callable[[str], list[str]]
) -> Iterator[Document]:
    for place, content in texts:
        yield from _pieces_of(content, place, split)


def _plain_pieces(
    reader: InputReader,
    span: Span,
    rule: BadTextRule,
    documents: str,
    split: Callable[[str], list[str]],
) -> Iterator[Document]:
    sentences: list[str] = []
    characters, is_start, source = 0, True, ""
    # Behind a border, a document that began in the span is read to its end, and one that began
    # before it is left to the previous span.
    between_blanks = documents == "blank_line"
    foreign = between_blanks and span.begin > 0
    for piece in _line_pieces(reader, after_end=between_blanks):
        if piece.is_blank_line and between_blanks:
            if sentences:
                yield Document(sentences, source, is_start)
            sentences, characters, is_start, foreign = [], 0, True, False
            if piece.line_offset >= span.end and not span.file.is_compressed:
                return
        decoded = None if foreign else rule.decode(piece.text, piece.offset)
        if decoded is not None and decoded.strip():
            if not sentences and is_start:
                source = _place(span, piece.number)
            # A line break of another system inside the line is white space, not the end of a
            # sentence's line.
            sentences += split(decoded)
            characters += len(decoded)
        ends_document = documents == "line" and piece.ends_line
        if (ends_document or characters >= PIECE_CHARACTERS) and sentences:
            yield Document(sentences, source, is_start)
            sentences, characters, is_start = [], 0, False
        if ends_document:
            is_start = True
    if sentences:
        yield Document(sentences, source, is_start)


def _place(span: Span, number: int) -> str:
    if not span.begin:
        return f"{span.file.path}:{number}"
    return f"{span.file.path}, line {number} after byte {span.begin:,}"


@dataclasses.dataclass(frozen=True, slots=True)
class _LinePiece:
    """A line of plain text, or a piece of whole characters of a very long one."""

    number: int  # Of the line, from 1.
    line_offset: int  # Where in the file the line begins, in bytes.
    offset: int  # Where the piece does.
    text: bytes
    ends_line: bool
    is_blank_line: bool  # It ends a line that is nothing but white space.


def _line_pieces(reader: InputReader, *, after_end: bool) -> Iterator[_LinePiece]:
    """The lines of plain text; one over the limit is cut, if possible at a blank."""
    number, rest, line_offset, is_blank = 1, b"", -1, True
    for place, part in reader.lines(LONGEST_LINE_BYTES, after_end=after_end):
        offset, line = place - len(rest), rest + part
        if offset == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
            offset = len(rest) + len(part) - len(line)
        if line_offset < 0:
            line_offset = offset
        rest = b""
        ends = line.endswith(b"\n")
        if len(part) == LONGEST_LINE_BYTES and not ends:
            cut = line.rfind(b" ") + 1 or _last_character_start(line)
            line, rest = line[:cut], line[cut:]
        is_blank = is_blank and _is_white_space(line)
        yield _LinePiece(number, line_offset, offset, line, ends, ends and is_blank)
        if ends:
            number, line_offset, is_blank = number + 1, -1, True
    if rest:
        yield _LinePiece(number, line_offset, place + len(part) - len(rest), rest, True, False)


def _is_white_space(line: bytes) -> bool:
    """Whether there is nothing else, U+3000 and its like included."""
    rest = line.strip()
    return not rest or (rest[0] > 127 and not rest.decode(errors="replace").strip())


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
    span: Span,
    rule: BadTextRule,
    text_field: str,
    split: Callable[[str], list[str]],
) -> Iterator[Document]:
    for number, (offset, line) in enumerate(reader.lines(LONGEST_JSON_BYTES), start=1):
        place = _place(span, number)
        if len(line) == LONGEST_JSON_BYTES and not line.endswith(b"\n"):
            raise UserError(
                f"{place} has more than {LONGEST_JSON_BYTES >> 20} MiB in one JSON object; write "
                "it as several documents."
            )
        if offset == 0 and line.startswith(BYTE_ORDER_MARK):
            offset, line = len(BYTE_ORDER_MARK), line[len(BYTE_ORDER_MARK) :]
        decoded = rule.decode(line, offset)
        if decoded is None or not decoded.strip():
            continue
        content = rule.without_surrogates(_text_of(decoded, place, text_field), f"line {number}")
        if content is not None:
            yield from _pieces_of(content, place, split)


def _text_of(line: str, place: str, text_field: str) -> str:
    """The text of a JSON object; null is an empty one."""
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
    content = "" if value[text_field] is None else value[text_field]
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
