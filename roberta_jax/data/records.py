"""Prepared rows on disk: ArrayRecord shards with a manifest; written in order, read in any order.

A dataset is a folder: `manifest.json`, `tokenizer/`, `train-00000-of-00004.array_record`,
`validation-…`. One record is one row, its ids as little-endian uint16 (uint32 from 65,537
vocabulary entries on), and behind them the next-sentence labels of its pairs, if it has any.
ArrayRecord checks every record's hash when it is read, so damage raises instead of becoming other
tokens.
"""

import hashlib
import itertools
import pathlib
import resource

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from roberta_jax.data.manifest import MANIFEST_NAME, Manifest, Shard
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import MachineError, UserError

TOKENIZER_FOLDER = "tokenizer"
# One record per chunk makes random reads cheap. Token ids hardly compress, and uncompressed rows
# read twice as fast.
WRITER_OPTIONS = "group_size:1,uncompressed"
READER_OPTIONS = "readahead_buffer_size:0"


class ShardWriter:
    """Writes the rows of one split into shards; `close` gives them their final names."""

    def __init__(self, folder: pathlib.Path, split: str, *, dtype: str, rows_per_shard: int):
        """Writes into `folder`; `dtype` is "uint16" or "uint32"."""
        self._folder, self._split, self._rows_per_shard = folder, split, rows_per_shard
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._row_counts: list[int] = []
        self._writer: ArrayRecordWriter | None = None

    def write(self, rows: np.ndarray) -> None:
        """Appends integer rows [n, sequence_length + label_slots].

        Raises MachineError when the disk refuses them.
        """
        try:
            for row in rows.astype(self._dtype):
                if self._writer is None or self._row_counts[-1] == self._rows_per_shard:
                    self._close_shard()
                    self._writer = ArrayRecordWriter(
                        str(self._path(len(self._row_counts))), WRITER_OPTIONS
                    )
                    self._row_counts.append(0)
                self._writer.write(row.tobytes())
                self._row_counts[-1] += 1
        except RuntimeError as error:  # The only type that ArrayRecord raises.
            raise self._refused(error) from error

    def close(self) -> list[Shard]:
        """Finishes the last shard and names them all; returns what the manifest says about them."""
        try:
            self._close_shard()
        except RuntimeError as error:
            raise self._refused(error) from error
        shards = []
        for number, rows in enumerate(self._row_counts):
            name = f"{self._split}-{number:05d}-of-{len(self._row_counts):05d}.array_record"
            path = self._path(number).rename(self._folder / name)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            shards.append(Shard(name=name, rows=rows, sha256=digest, bytes=path.stat().st_size))
        return shards

    def _path(self, number: int) -> pathlib.Path:
        return self._folder / f"{self._split}-{number:05d}.unfinished"

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _refused(self, error: RuntimeError) -> MachineError:
        return MachineError(
            f"A shard in {self._folder} cannot be written: {error}. Free some space or choose "
            "another disk."
        )


class RecordDataset:
    """The rows of one split of a prepared dataset, read by number.

    Attributes:
      manifest: what the folder says about itself.
      split: "train" or "validation".
      sequence_length: tokens per row.
      fingerprint: 16 hexadecimal digits that depend on the tokenizer and on every row of the
        dataset.
    """

    def __init__(self, folder: pathlib.Path, split: str, manifest: Manifest):
        """Use `open_dataset`, which checks the folder first."""
        self.folder, self.split, self.manifest = folder, split, manifest
        self.sequence_length = manifest.sequence_length
        self._record_length = manifest.sequence_length + manifest.label_slots
        self.fingerprint = manifest.fingerprint
        self._dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self._shards = manifest.splits[split].shards
        self._first_rows = [
            0,
            *itertools.accumulate(shard.rows for shard in self._shards),
        ]  # [shards + 1]
        self._readers: dict[int, ArrayRecordReader] = {}
        _allow_open_files(len(self._shards))

    def __len__(self) -> int:
        return self._first_rows[-1]

    def __getstate__(self) -> tuple[pathlib.Path, str, Manifest]:
        return self.folder, self.split, self.manifest  # Open readers stay in their process.

    def __setstate__(self, state: tuple[pathlib.Path, str, Manifest]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows with the numbers `indices` [n], in that order: [n, T] uint16 or uint32.

        Raises:
          IndexError: a number is negative or not less than the length.
          UserError: a shard is damaged or missing; the message names it.
        """
        return self._read(indices)[:, : self.sequence_length]

    def read_labelled(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows [n, T] and their labels [n, label_slots], as `read` and `read_labels`."""
        records = self._read(indices)
        return records[:, : self.sequence_length], records[:, self.sequence_length :]

    def read_labels(self, indices: np.ndarray) -> np.ndarray:
        """The next-sentence labels of those rows: [n, label_slots], values of `NextSentence`.

        Label i is that of the example that begins with the row's `<s>` number i; 0 fills up.
        Raises as `read` does.
        """
        return self._read(indices)[:, self.sequence_length :]

    def _read(self, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices, np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(
                f"row numbers must be in [0, {len(self)}), got {indices.min()} to {indices.max()}"
            )
        rows = np.empty((len(indices), self._record_length), self._dtype)
        shard_numbers = np.searchsorted(self._first_rows, indices, side="right") - 1
        for shard_number in np.unique(shard_numbers).tolist():
            places = np.flatnonzero(shard_numbers == shard_number)
            positions = (indices[places] - self._first_rows[shard_number]).tolist()
            rows[places] = self._read_shard(shard_number, positions)
        return rows

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the rows were made with.

        Raises UserError when the folder has another one, or none.
        """
        folder = self.folder / TOKENIZER_FOLDER
        tokenizer = load_tokenizer(folder)
        if tokenizer.fingerprint != self.manifest.tokenizer.fingerprint:
            raise UserError(
                f"The tokenizer in {folder} is not the one that the rows were made with: its "
                f"fingerprint is {tokenizer.fingerprint}, and {MANIFEST_NAME} says "
                f"{self.manifest.tokenizer.fingerprint}. Copy it again from where it is intact."
            )
        return tokenizer

    def _read_shard(self, shard_number: int, positions: list[int]) -> np.ndarray:
        shard = self._shards[shard_number]
        try:
            reader = self._readers.get(shard_number)
            if reader is None:
                reader = ArrayRecordReader(str(self.folder / shard.name), options=READER_OPTIONS)
                if reader.num_records() != shard.rows:
                    raise self._damaged(
                        shard, f"it holds {reader.num_records()} rows instead of {shard.rows}"
                    )
                self._readers[shard_number] = reader
            records = reader.read(positions)
        except (RuntimeError, IndexError) as error:
            raise self._damaged(shard, str(error)) from error
        data = np.frombuffer(b"".join(records), self._dtype)
        if len(data) != len(positions) * self._record_length:
            raise self._damaged(shard, f"its records do not have {self._record_length} numbers")
        return data.reshape(len(positions), self._record_length)

    def _damaged(self, shard: Shard, reason: str) -> UserError:
        return UserError(
            f"The shard {self.folder / shard.name} cannot be read: {reason}. Copy it again from "
            f"where it is intact (sha256 {shard.sha256}), or prepare the dataset again with "
            "--overwrite."
        )


def _allow_open_files(more: int) -> None:
    """Lets this process hold so many more files open, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + more if hard == resource.RLIM_INFINITY else min(soft + more, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_dataset(folder: str | pathlib.Path, split: str) -> RecordDataset:
    """Opens a split of a folder that `prepare` wrote.

    Raises UserError when it is missing, damaged or incomplete.
    """
    folder = local_path(folder)
    manifest = Manifest.load(folder)
    if split not in manifest.splits:
        raise UserError(
            f"The dataset {folder} has no split {split!r}; it has {', '.join(manifest.splits)}."
        )
    for shard in manifest.splits[split].shards:
        path = folder / shard.name
        size = path.stat().st_size if path.is_file() else 0
        if size != shard.bytes:
            raise UserError(
                f"The shard {path} has {size} bytes, and {MANIFEST_NAME} says {shard.bytes}. Copy "
                "it again from where it is intact, or prepare the dataset again with --overwrite."
            )
    return RecordDataset(folder, split, manifest)
