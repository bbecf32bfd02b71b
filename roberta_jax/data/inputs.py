"""Which files a corpus is made of, and their lines, plain or compressed, local or gs://.

A split of a TFDS dataset is taken for one file.
"""

import contextlib
import dataclasses
import glob
import io
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from roberta_jax.data import compression
from roberta_jax.data.tfds_source import TfdsSplit, is_tfds
from roberta_jax.errors import UserError

PLAIN_TEXT_SUFFIXES = (".txt",)
JSON_LINES_SUFFIXES = (".jsonl", ".json")
PARQUET_SUFFIXES = (".parquet",)
SUFFIXES = (*PLAIN_TEXT_SUFFIXES, *JSON_LINES_SUFFIXES, *PARQUET_SUFFIXES)
BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class InputFile:
    """A file of the corpus, or a TFDS split, and what tells whether it has changed since."""

    path: str
    bytes: int
    modified_ns: int

    @property
    def is_json_lines(self) -> bool:
        """Whether each line is a JSON object."""
        name = compression.without_suffix(self.path)
        return name.endswith(JSON_LINES_SUFFIXES) and not self.is_tfds

    @property
    def is_parquet(self) -> bool:
        """Whether the file is a table of columns."""
        return self.path.endswith(PARQUET_SUFFIXES) and not self.is_tfds

    @property
    def is_tfds(self) -> bool:
        """Whether this is a split of a TFDS dataset."""
        return is_tfds(self.path)

    @property
    def is_plain_text(self) -> bool:
        """Whether the documents are told by lines."""
        return not (self.is_json_lines or self.is_parquet or self.is_tfds)

    @property
    def is_compressed(self) -> bool:
        """Whether the text is compressed as a whole."""
        return not self.is_tfds and compression.is_compressed(self.path)

    @property
    def text_bytes(self) -> int:
        """About how many bytes of text there are."""
        small = self.is_compressed or self.is_parquet
        return int(self.bytes / compression.USUAL_SHARE) if small else self.bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A part of a file: the documents that begin in its bytes [begin, end) as stored.

    A compressed file has one span only; of a Parquet file, the row groups that begin there; of a
    TFDS split, a share of the records.
    """

    file: InputFile
    begin: int
    end: int

    @classmethod
    def whole(cls, file: InputFile) -> "Span":
        """All of a file."""
        return cls(file, 0, file.bytes)

    @property
    def bytes(self) -> int:
        """Its size as stored."""
        return self.end - self.begin


def find_files(inputs: Sequence[str]) -> list[InputFile]:
    """The files that `inputs` name, each once; those of a folder or a glob sorted by name.

    Of a local folder, files at any depth are taken that are not hidden; of a gs:// folder, those
    directly in it.

    Raises:
      UserError: an input names nothing, is of another type, or all files are empty.
    """
    if not inputs:
        raise UserError(
            "No input is given; --input takes a file, a folder, a glob or tfds:NAME:SPLIT, and may "
            "be repeated."
        )
    files: dict[str, InputFile] = {}
    for name in inputs:
        if is_tfds(name):
            split = TfdsSplit(name)
            files.setdefault(name, InputFile(name, split.bytes, split.modified_ns))
            continue
        with _errors_told(name):
            for path in _matches(name):
                # Whatever it is called: text that is read twice counts twice.
                identity = str(path if _is_remote(str(path)) else path.resolve())
                files.setdefault(identity, _describe(path))
    if not sum(file.bytes for file in files.values()):
        raise UserError(f"The input is empty: {', '.join(list(files)[:5])} without a single byte.")
    return list(files.values())


def input_file(name: str) -> InputFile:
    """The file of this name, whatever its type; UserError when it cannot be read."""
    with _errors_told(name):
        path = path_of(name)
        if path.is_dir():
            raise UserError(f"The input {name} is a folder; give a file.")
        return _describe(path)


@contextlib.contextmanager
def _errors_told(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The input {error.filename or name} cannot be read: {error.strerror or error}."
        ) from error
    except ImportError as error:  # What reads remote paths is not installed.
        raise UserError(
            f"The input {name} is on remote storage: {error}. For gs:// paths, "
            "pip install 'roberta-jax[gcs]' installs it."
        ) from error


def overlap(files: Sequence[InputFile], others: Sequence[InputFile]) -> list[str]:
    """Those of `others` that are in `files` too, or partly, whatever they are called there."""

    def identity(file: InputFile) -> str:
        as_it_is = file.is_tfds or _is_remote(file.path)
        return file.path if as_it_is else str(pathlib.Path(file.path).resolve())

    known = set(map(identity, files))
    extents = [extent for file in files if file.is_tfds for extent in TfdsSplit(file.path).extents]
    return [
        file.path
        for file in others
        if identity(file) in known
        or (
            file.is_tfds
            and any(
                path == other and begin < other_end and other_begin < end
                for path, begin, end in TfdsSplit(file.path).extents
                for other, other_begin, other_end in extents
            )
        )
    ]


def on_this_machine(path: str) -> str:
    """The path of an `InputFile` for a process with another current folder."""
    return path if is_tfds(path) or _is_remote(path) else str(pathlib.Path(path).absolute())


def _matches(name: str) -> list[Any]:
    path = path_of(name)
    if path.is_dir():
        inside = path.glob("*") if _is_remote(name) else _below(path)
        found = sorted(match for match in inside if _has_known_suffix(match) and not match.is_dir())
        if not found:
            raise UserError(f"The input folder {name} has no files that end in {_suffix_list()}.")
        return found
    if path.exists():
        found = [path]
    elif glob.has_magic(name):
        found = sorted(match for match in _glob(name) if not match.is_dir())
        if not found:
            raise UserError(f"The input {name} matches no file.")
    else:
        raise UserError(f"The input {name} does not exist.")
    for match in found:
        if not _has_known_suffix(match):
            raise UserError(
                f"The input {match} is of an unknown type; names must end in {_suffix_list()}."
            )
    return found


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """What is in a folder at any depth, but for what is hidden, such as .git."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _glob(name: str) -> Iterator[Any]:
    if not _is_remote(name):
        return (pathlib.Path(match) for match in glob.glob(name, recursive=True))
    root, _, pattern = name.partition("://")[2].partition("/")
    return iter(path_of(f"{name.partition('://')[0]}://{root}").glob(pattern))


def _describe(path: Any) -> InputFile:
    status = path.stat()
    if not _is_remote(str(path)):
        return InputFile(path=str(path), bytes=status.st_size, modified_ns=status.st_mtime_ns)
    return InputFile(path=str(path), bytes=status.length, modified_ns=int(status.mtime) * 10**9)


def path_of(name: str) -> Any:
    """A pathlib path, or one of the same interface for what is not local."""
    if not _is_remote(name):
        return pathlib.Path(name).expanduser()
    from etils import epath  # Slow to import, and needed for remote paths only.

    return epath.Path(name)


def _is_remote(name: str) -> bool:
    return "://" in name


def _has_known_suffix(path: Any) -> bool:
    name = compression.without_suffix(path.name)
    # A Parquet file compresses its own columns.
    return name.endswith(SUFFIXES) and not (name.endswith(PARQUET_SUFFIXES) and name != path.name)


def _suffix_list() -> str:
    return f"{', '.join(SUFFIXES)} (the texts also with {', '.join(compression.SUFFIXES)})"


def open_stored(file: InputFile) -> BinaryIO:
    """The bytes of a file as stored; raises UserError when it cannot be read."""
    try:
        return path_of(file.path).open("rb")
    except OSError as error:
        raise unreadable(file, error) from error


def unreadable(file: InputFile, error: OSError) -> UserError:
    """What to say of a file that the system does not give."""
    return UserError(f"The input {file.path} cannot be read: {error.strerror or error}.")


class InputReader:
    """Reads the lines that begin in a span, in pieces of bounded size."""

    def __init__(self, span: Span):
        """Opens the file; raises UserError when it cannot be read."""
        self._span = span
        self.stored_bytes_read = 0  # Of the span as it is stored, so compressed bytes of a .gz.
        self.text_bytes_read = 0  # Uncompressed.
        self._stored = open_stored(span.file)

    def lines(self, longest_bytes: int, *, after_end: bool = False) -> Iterator[tuple[int, bytes]]:
        """Lines with their line break; one over `longest_bytes` comes in several parts.

        Args:
          longest_bytes: of a part.
          after_end: also the lines behind the span, up to the end of the file.

        Yields:
          Place in the uncompressed file of the first byte, and the line.

        Raises:
          UserError: the file is damaged or cut off.
        """
        file, begin = self._span.file, self._span.begin
        with self._stored:
            text = io.BufferedReader(
                compression.decompressed(file.path, self._stored), BUFFER_BYTES
            )
            place = 0
            try:
                if begin:  # The line that the byte before belongs to is the previous span's.
                    place = text.seek(begin - 1)
                    while (part := text.readline(longest_bytes)) and not part.endswith(b"\n"):
                        place += len(part)
                    place += len(part)
                end = math.inf if file.is_compressed or after_end else self._span.end
                is_start = True
                while not (is_start and place >= end) and (line := text.readline(longest_bytes)):
                    self.text_bytes_read += len(line)
                    self.stored_bytes_read = (
                        self._stored.tell() if file.is_compressed else self.text_bytes_read
                    )
                    is_start = line.endswith(b"\n")
                    yield place, line
                    place += len(line)
            except compression.DAMAGE as error:
                raise UserError(
                    f"The input {file.path} is damaged or cut off after byte {place:,} of its "
                    f"text: {str(error).rstrip('.')}. Copy it again from where it is intact."
                ) from error
            except OSError as error:
                raise unreadable(file, error) from error
            self.stored_bytes_read = self._span.bytes
