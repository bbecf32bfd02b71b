"""Compressed files as streams of bytes: gzip, Zstandard, xz, by the end of their name."""

import gzip
import lzma
import sys
import zlib
from typing import Any, BinaryIO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES = (".gz", ".zst", ".xz")
# What the readers raise for a file that is damaged, cut off or not compressed at all.
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError)
# Text rarely becomes smaller than this share of itself, and usually about the second.
SMALLEST_SHARE = 1 / 8
USUAL_SHARE = 1 / 3


def is_compressed(name: str) -> bool:
    """Whether the name ends as that of a compressed file."""
    return name.endswith(SUFFIXES)


def without_suffix(name: str) -> str:
    """The name of what is compressed: `a.txt.gz` → `a.txt`."""
    return next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)


def decompressed(name: str, stored: BinaryIO) -> Any:
    """A binary stream of the content of `stored`, whose name says how it is compressed.

    Several compressed streams one after the other are read as one. Reading raises one of `DAMAGE`
    where the file ends too early.
    """
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=stored)
    if name.endswith(".zst"):
        return zstd.ZstdFile(stored)
    if name.endswith(".xz"):
        return lzma.LZMAFile(stored)
    return stored
