"""Tables of named columns: TSV, CSV, JSON lines, Parquet, TFDS; the texts also compressed.

Of TSV, as in GLUE, a tab always ends a field and a line break a row: quotes are text. CSV has
quotes as spreadsheets write them.
"""

import csv
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from roberta_jax.data import compression
from roberta_jax.data.corpus import BYTE_ORDER_MARK
from roberta_jax.data.inputs import InputFile, InputReader, Span, input_file, open_stored
from roberta_jax.data.tfds_source import TfdsSplit, is_tfds
from roberta_jax.errors import UserError
from roberta_jax.wording import count_of

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".parquet")
LONGEST_LINE_BYTES = 1 << 25
BATCH_ROWS = 256  # Of Parquet, decoded at once.
_SHOWN_CHARACTERS = 60

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table that is open.

    Attributes:
      name: the file, or the TFDS split.
      columns: their names; of JSON lines, the fields of the first object.
      rows: place of the row, such as "train.tsv, line 3", and value by column. TSV and CSV give
        texts; the others what they hold, as Python's own values: text, numbers, lists, None. The
        labels of TFDS come by name; one that is hidden is None.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[str, Record]]

    def check(self, columns: Sequence[str], hint: str) -> None:
        """Raises UserError, ended by the sentence `hint`, if one of the columns is not there."""
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise UserError(
                f"{self.name} has no column {' and no column '.join(map(repr, missing))}; it has "
                f"{_listed(self.columns)}. {hint}"
            )


def read_table(
    path: str, *, columns: Sequence[str] | None = None, ragged: list[int] | None = None
) -> Table:
    """Opens a table; its rows are read as they are asked for.

    Args:
      path: of a file, whose name says its type, or `tfds:NAME/CONFIG:SPLIT`.
      columns: names of the columns of a TSV or CSV without a header; None where the first line is
        the header.
      ragged: of TSV and CSV, gets the numbers of the lines that have more or fewer fields than
        there are columns, and they are left out; None refuses them.

    Raises:
      UserError: the file cannot be read, is of an unknown type, empty, damaged or not UTF-8; while
        its rows are read also that one of them is no row. The message names it.
    """
    if is_tfds(path):
        return _tfds_table(path)
    name = compression.without_suffix(path)
    if not name.endswith(SUFFIXES) or (name.endswith(".parquet") and name != path):
        raise UserError(
            f"The table {path} is of an unknown type; its name must end in {', '.join(SUFFIXES)} "
            f"(the texts also with {', '.join(compression.SUFFIXES)}), or it must be "
            "tfds:NAME/CONFIG:SPLIT."
        )
    file = input_file(path)
    if name.endswith(".parquet"):
        return _parquet_table(file)
    if name.endswith((".jsonl", ".json")):
        return _json_table(file)
    lines = _lines(file)
    fields = _csv_fields(file, lines) if name.endswith(".csv") else _tsv_fields(lines)
    if columns is None:
        number, columns = next(fields, (0, []))
        if not number:
            raise UserError(f"The table {path} is empty; its first line must name the columns.")
        if len(set(columns)) < len(columns):
            raise UserError(
                f"{path}: the first line must name the columns, each once; it is "
                f"{_listed(columns)}."
            )
    return Table(path, tuple(columns), _records(file, fields, tuple(columns), ragged))


def place_in_table(path: str, number: int) -> str:
    """How the line with this number, from 1, is called in messages."""
    return f"{path}, line {number}"


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(map(repr, columns))
    return shown if len(shown) < 500 else f"{shown[:500]} …"


def _lines(file: InputFile) -> Iterator[tuple[int, str]]:
    """Number from 1 and text of every line, without its line break."""
    pieces = InputReader(Span.whole(file)).lines(LONGEST_LINE_BYTES)
    for number, (_, line) in enumerate(pieces, start=1):
        place = place_in_table(file.path, number)
        if len(line) == LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            raise UserError(f"{place} has more than {LONGEST_LINE_BYTES >> 20} MiB.")
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{place} is not valid UTF-8 (byte {error.start} of the line). Convert the file, "
                "such as by iconv -t UTF-8."
            ) from error
        yield number, text.removesuffix("\n").removesuffix("\r")


def _tsv_fields(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        yield number, line.split("\t")


def _csv_fields(
    file: InputFile, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line of each row, and its fields."""
    # The limit is of the whole process; a text may well be longer than its default.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE_BYTES))
    reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise UserError(
            f"{place_in_table(file.path, reader.line_num)} is no CSV ({error}). A field with a "
            'quote in it must be quoted, and the quote doubled: "say ""yes""".'
        ) from error


def _records(
    file: InputFile,
    fields: Iterator[tuple[int, list[str]]],
    columns: tuple[str, ...],
    ragged: list[int] | None,
) -> Iterator[tuple[str, Record]]:
    for number, values in fields:
        if len(columns) > 1 and values in ([], [""]):
            continue  # A line without anything, as at the end of some files.
        if len(values) != len(columns):
            if ragged is None:
                raise UserError(
                    f"{place_in_table(file.path, number)} has {count_of(len(values), 'field')}, "
                    f"and the table has {count_of(len(columns), 'column')}: {_listed(columns)}. "
                    f"The line is {_beginning(values)}."
                )
            ragged.append(number)
            continue
        yield place_in_table(file.path, number), dict(zip(columns, values, strict=True))


def _beginning(values: Sequence[str]) -> str:
    line = "\t".join(values)
    return repr(line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…")


def _json_table(file: InputFile) -> Table:
    rows = _json_rows(file)
    first = next(rows, None)
    if first is None:
        raise UserError(f"The table {file.path} is empty; every line must be one JSON object.")

    def all_rows() -> Iterator[tuple[str, Record]]:
        yield first
        yield from rows

    return Table(file.path, tuple(first[1]), all_rows())


def _json_rows(file: InputFile) -> Iterator[tuple[str, Record]]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        place = place_in_table(file.path, number)
        try:
            record = json.loads(line)
            # An escape can spell half a surrogate pair, which is no text.
            if "\\ud" in line.lower():
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{place} is not JSON ({error}). Every line must be one JSON object."
            ) from error
        if not isinstance(record, dict):
            raise UserError(
                f"{place} is a JSON {type(record).__name__}. Every line must be one JSON object."
            )
        yield place, record


def _parquet_table(file: InputFile) -> Table:
    import pyarrow as pa  # Slow to import, and needed for this kind of file only.
    from pyarrow import parquet

    def damaged(error: Exception) -> UserError:
        return UserError(
            f"The table {file.path} is damaged or cut off: {str(error).rstrip('.')}. Copy it again "
            "from where it is intact."
        )

    try:
        with open_stored(file) as stored:
            columns = tuple(parquet.ParquetFile(stored).schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise damaged(error) from error

    def rows() -> Iterator[tuple[str, Record]]:
        number = 0
        with open_stored(file) as stored:
            try:
                table = parquet.ParquetFile(stored)
                for batch in table.iter_batches(BATCH_ROWS, use_threads=False):
                    for record in _batch_records(batch):
                        number += 1
                        yield f"{file.path}, row {number}", record
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{file.path}, row {number + 1} holds text that is not valid UTF-8 ({error})."
                ) from error
            except (pa.ArrowException, OSError) as error:
                raise damaged(error) from error

    return Table(file.path, columns, rows())


def _batch_records(batch: Any) -> Iterator[Record]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # The rows before the one with bad text are whole.
        for place in range(batch.num_rows):
            yield from batch.slice(place, 1).to_pylist()


def _tfds_table(name: str) -> Table:
    split = TfdsSplit(name)
    features = split.features

    def rows() -> Iterator[tuple[str, Record]]:
        for number, record in enumerate(split.records(0, split.num_records)):
            place = f"{name}, record {number}"
            try:
                values = {key: _plain(features[key], value) for key, value in record.items()}
            except UnicodeDecodeError as error:
                raise UserError(f"{place} holds text that is not valid UTF-8 ({error}).") from error
            yield place, values

    return Table(name, tuple(features), rows())


def _plain(feature: Any, value: Any) -> Any:
    """What TFDS gives, as Python's own values."""
    names = getattr(feature, "names", None)  # Of a ClassLabel.
    inner = getattr(feature, "feature", None)  # Of a sequence.
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, dict):
        return {key: _plain(None, part) for key, part in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(inner, part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if names is not None:
        return names[value] if value >= 0 else None
    return value
