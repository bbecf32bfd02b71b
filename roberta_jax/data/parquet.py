"""Texts from a column of a Parquet file, row group by row group."""

import itertools
from collections.abc import Iterator
from typing import Any

from roberta_jax.data.bad_text import BadTextRule
from roberta_jax.data.inputs import Span, open_stored, unreadable
from roberta_jax.errors import UserError

BATCH_ROWS = 256  # Decoded at once.


class ParquetReader:
    """Reads one column of the row groups that begin in a span."""

    def __init__(self, span: Span, column: str, rule: BadTextRule):
        """Opens the file and reads its directory.

        Raises:
          UserError: it cannot be read, is damaged, or has no such column of texts.
        """
        import pyarrow as pa  # Slow to import, and needed for this kind of file only.
        from pyarrow import parquet

        self._span, self._column, self._rule = span, column, rule
        self.stored_bytes_read = 0
        self.text_bytes_read = 0
        self._damage = (pa.ArrowException, OSError)
        self._stored = open_stored(span.file)
        try:
            self._table = parquet.ParquetFile(self._stored)
            schema = self._table.schema_arrow
        except self._damage as error:
            self._stored.close()
            raise self._damaged(error) from error
        if schema.names.count(column) != 1:
            self._stored.close()
            number = "several columns" if column in schema.names else "no column"
            raise UserError(
                f"{span.file.path} has {number} {column!r}; it has {', '.join(schema.names)}. "
                "--text_field names the column with the text."
            )
        kind = schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        types = pa.types
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
            self._stored.close()
            raise UserError(
                f"{span.file.path}: the column {column!r} holds {kind}; it must hold strings."
            )
        self._binary = pa.large_binary()

    def texts(self) -> Iterator[tuple[str, str]]:
        """Place (file and row) and text of every row that has one; a null is an empty document."""
        metadata = self._table.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        first_rows = [0, *itertools.accumulate(sizes)]
        with self._stored:
            for group in range(metadata.num_row_groups):
                if not self._span.begin <= _begin_of(metadata.row_group(group)) < self._span.end:
                    continue
                yield from self._texts_of(group, first_rows[group])
                self.stored_bytes_read += metadata.row_group(group).total_byte_size
        self.stored_bytes_read = self._span.bytes

    def _texts_of(self, group: int, row: int) -> Iterator[tuple[str, str]]:
        path = self._span.file.path
        batches = self._table.iter_batches(
            BATCH_ROWS, row_groups=[group], columns=[self._column], use_threads=False
        )
        try:
            for batch in batches:
                # As bytes, because the library takes strings for UTF-8 without looking.
                for value in batch.column(0).cast(self._binary).to_pylist():
                    row += 1
                    if value is None:
                        continue
                    self.text_bytes_read += len(value)
                    text = self._rule.decode(value, row, "row")
                    if text is not None:
                        yield f"{path}, row {row}", text
        except self._damage as error:
            raise self._damaged(error, f" (after row {row:,})") from error

    def _damaged(self, error: Exception, where: str = "") -> UserError:
        if isinstance(error, OSError) and error.errno:
            return unreadable(self._span.file, error)
        return UserError(
            f"The input {self._span.file.path} is damaged or cut off{where}: "
            f"{str(error).rstrip('.')}. Copy it "
            "again from where it is intact."
        )


def _begin_of(group: Any) -> int:
    """Where a row group begins in the file."""
    columns = [group.column(i) for i in range(group.num_columns)]
    return min(
        offset
        for column in columns
        for offset in (column.data_page_offset, column.dictionary_page_offset)
        if offset is not None
    )
