"""Which files a corpus is made of, and their bytes, plain or gzip, local or gs://."""

import dataclasses
import glob
import gzip
import io
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from roberta_jax.errors import UserError

PLAIN_TEXT_SUFFIXES = (".txt",)
JSON_LINES_SUFFIXES = (".jsonl", ".json")
SUFFIXES = (*PLAIN_TEXT_SUFFIXES, *JSON_LINES_SUFFIXES)
BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class InputFile:
    """A file of the corpus, and what tells whether it has changed since."""

    path: str
    bytes: int
    modified_ns: int

    @property
    def is_json_lines(self) -> bool:
        """Whether each line is a JSON object; else the file is plain text."""
        return self.path.removesuffix(".gz").endswith(JSON_LINES_SUFFIXES)


def find_files(inputs: Sequence[str]) -> list[InputFile]:
    """The files that `inputs` name, each once; those of a folder or a glob sorted by name.

    Of a local folder, files at any depth are taken; of a gs:// folder, those directly in it.

    Raises:
      UserError: an input names nothing, is of another type, or all files are empty.
    """
    if not inputs:
        raise UserError(
            "No input is given; --input takes a file, a folder or a glob, and may be repeated."
        )
    files: dict[str, InputFile] = {}
    for name in inputs:
        for path in _matches(name):
            files.setdefault(str(path), _describe(path))
    if not sum(file.bytes for file in files.values()):
        raise UserError(f"The input is empty: {', '.join(list(files)[:5])} without a single byte.")
    return list(files.values())


def _matches(name: str) -> list[Any]:
    path = _path(name)
    if path.is_dir():
        inside = path.glob("*") if _is_remote(name) else path.rglob("*")
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


def _glob(name: str) -> Iterator[Any]:
    if not _is_remote(name):
        return (pathlib.Path(match) for match in glob.glob(name, recursive=True))
    root, _, pattern = name.partition("://")[2].partition("/")
    return iter(_path(f"{name.partition('://')[0]}://{root}").glob(pattern))


def _describe(path: Any) -> InputFile:
    status = path.stat()
    if not _is_remote(str(path)):
        return InputFile(path=str(path), bytes=status.st_size, modified_ns=status.st_mtime_ns)
    return InputFile(path=str(path), bytes=status.length, modified_ns=int(status.mtime) * 10**9)


def _path(name: str) -> Any:
    """A pathlib path, or one of the same interface for what is not local."""
    if not _is_remote(name):
        return pathlib.Path(name)
    from etils import epath  # Slow to import, and needed for remote paths only.

    return epath.Path(name)


def _is_remote(name: str) -> bool:
    return "://" in name


def _has_known_suffix(path: Any) -> bool:
    return path.name.removesuffix(".gz").endswith(SUFFIXES)


def _suffix_list() -> str:
    return ", ".join(SUFFIXES) + " (or one of them and .gz)"


class InputReader:
    """Reads one file line by line, in pieces of bounded size."""

    def __init__(self, file: InputFile):
        """Opens the file; raises UserError when it cannot be read."""
        self._file = file
        self.stored_bytes_read = 0  # Of the file as it is stored, so compressed bytes of a .gz.
        self.text_bytes_read = 0  # Uncompressed.
        try:
            self._stored: BinaryIO = _path(file.path).open("rb")
        except OSError as error:
            raise UserError(
                f"The input {file.path} cannot be read: {error.strerror or error}."
            ) from error

    def lines(self, longest_bytes: int) -> Iterator[bytes]:
        """Lines with their line break; one over `longest_bytes` comes in several parts."""
        compressed = self._file.path.endswith(".gz")
        with self._stored:
            opened = gzip.GzipFile(fileobj=self._stored) if compressed else self._stored
            text = io.BufferedReader(opened, BUFFER_BYTES)  # type: ignore[type-var]
            try:
                while line := text.readline(longest_bytes):
                    self.stored_bytes_read = self._stored.tell()
                    self.text_bytes_read += len(line)
                    yield line
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise UserError(
                    f"The input {self._file.path} is damaged or cut off: {error}. Copy it again "
                    "from where it is intact."
                ) from error
            except OSError as error:
                raise UserError(
                    f"The input {self._file.path} cannot be read: {error.strerror or error}."
                ) from error
            self.stored_bytes_read = self._file.bytes
