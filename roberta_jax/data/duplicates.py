"""Documents that occur more than once in a corpus, found by hash in bounded memory.

Every part of the corpus is hashed by itself, by any process or machine (`HashParts`). Then the
hashes of all parts are compared, one range of their values after the other (`find_duplicates`), and
what is left out of each part is known before any part is written.
"""

import dataclasses
import hashlib
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np

from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.corpus import Document
from roberta_jax.data.output_folder import folder_at_once
from roberta_jax.data.part_writer import Report, documents_of
from roberta_jax.data.parts import Part
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.validation_split import TRAIN

HASH_BYTES = 16  # Two of 10^12 documents share one by chance with probability 10^-15.
# Of documents whose hashes are in memory at once.
RUN_DOCUMENTS = 1 << 20
BUCKET_DOCUMENTS = 1 << 21
_RUNS = "run-*.npy"  # [3, n] uint64, sorted: both halves of the hash, number of the document.
_REPEATED = "repeated.bin"  # int64: documents that repeat one before them in their run.


@dataclasses.dataclass(frozen=True, slots=True)
class HashParts:
    """Writes the hashes of a part's documents, sorted, into a folder of its own below `folder`."""

    folder: pathlib.Path
    settings: PrepareSettings

    title = "looking for duplicates"

    def __call__(self, part: Part, report: Report, num_processes: int = 0) -> None:
        """Reads a part; `num_processes` is of no use here."""
        # However lines are cut into sentences, it is the same document.
        settings = dataclasses.replace(self.settings, sentence_splitter="line")
        read = ReadCounts()
        documents = 0

        def reported() -> Iterator[Document]:
            for document in documents_of(part, settings, read):
                report(read, documents, 0)
                yield document

        with folder_at_once(hash_folder(self.folder, part)) as folder:
            digests = bytearray()
            run = 0
            for digest in _digests(reported()):
                digests += digest
                documents += 1
                if len(digests) == RUN_DOCUMENTS * HASH_BYTES:
                    _write_run(folder, run, digests, documents)
                    run += 1
                    digests.clear()
            _write_run(folder, run, digests, documents)
        report(read, documents, 0)


def hash_folder(folder: pathlib.Path, part: Part) -> pathlib.Path:
    """Where `HashParts` writes; it is there when it is whole."""
    return folder / f"part-{part.number:05d}"


def _digests(documents: Iterator[Document]) -> Iterator[bytes]:
    digest = None
    for document in documents:
        if document.is_start:
            if digest is not None:
                yield digest.digest()
            digest = hashlib.blake2b(digest_size=HASH_BYTES)
        assert digest is not None, "the first piece starts a document"
        for sentence in document.sentences:
            digest.update(sentence.encode())
            digest.update(b"\n")
    if digest is not None:
        yield digest.digest()


def _write_run(folder: pathlib.Path, run: int, digests: bytearray, documents: int) -> None:
    """Writes the last `len(digests) / 16` of so many documents; repeated ones need one entry."""
    count = len(digests) // HASH_BYTES
    entries = np.empty((3, count), np.uint64)
    entries[:2] = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    entries[2] = np.arange(documents - count, documents)
    entries = entries[:, np.lexsort(entries[::-1])]
    repeats = _repeats(entries)
    np.save(folder / f"run-{run:05d}.npy", entries[:, ~repeats])
    with (folder / _REPEATED).open("ab") as file:
        file.write(entries[2, repeats].astype("<i8").tobytes())


def _repeats(entries: np.ndarray) -> np.ndarray:
    """Which of the sorted entries [3, n] have the hash of the one before; bool [n]."""
    same = np.zeros(entries.shape[1], bool)
    same[1:] = (entries[:2, 1:] == entries[:2, :-1]).all(0)
    return same


def find_duplicates(hashes: pathlib.Path, parts: Sequence[Part], folder: pathlib.Path) -> None:
    """Writes which documents of each part repeat another one, and removes the hashes.

    The first document stays: one of a validation input if there is any, else the first of the
    corpus.

    Args:
      hashes: where `HashParts` has written those of all `parts`.
      parts: of the corpus.
      folder: is made; `duplicates_of` reads it.
    """
    runs = [
        (part, path)
        for part in sorted(parts, key=lambda part: (part.split == TRAIN, part.number))
        for path in sorted(hash_folder(hashes, part).glob(_RUNS))
    ]
    documents = sum(np.load(path, mmap_mode="r").shape[1] for _, path in runs)
    num_buckets = -(-documents // BUCKET_DOCUMENTS)
    begins = [0] * len(runs)
    with folder_at_once(folder) as partial:
        for part in parts:
            shutil.copyfile(hash_folder(hashes, part) / _REPEATED, _list_of(partial, part))
        for bucket in range(max(num_buckets, 1)):
            # The last hash of the bucket; those of [0, 2^64) are spread evenly.
            last = np.uint64(((bucket + 1) << 64) // max(num_buckets, 1) - 1)
            found = []
            for number, (part, path) in enumerate(runs):
                # Opened one after the other: there may be more than a process may hold open.
                entries = np.load(path, mmap_mode="r")
                end = int(np.searchsorted(entries[0], last, "right"))
                found.append((part, np.array(entries[:, begins[number] : end])))
                begins[number] = end
            _compare(found, partial)
    shutil.rmtree(hashes)


def _compare(runs: Sequence[tuple[Part, np.ndarray]], folder: pathlib.Path) -> None:
    """Of documents with hashes in the same range, in order of rank, adds the repeated to lists."""
    entries = np.concatenate([entries for _, entries in runs], axis=1)
    origin = np.repeat(np.arange(len(runs)), [entries.shape[1] for _, entries in runs])
    order = np.lexsort((origin, entries[1], entries[0]))  # A run has a hash once.
    repeats = order[_repeats(entries[:, order])]
    repeats = repeats[np.argsort(origin[repeats], kind="stable")]
    first_runs, firsts = np.unique(origin[repeats], return_index=True)
    for run, numbers in zip(first_runs, np.split(entries[2, repeats], firsts[1:]), strict=False):
        with _list_of(folder, runs[run][0]).open("ab") as file:
            file.write(numbers.astype("<i8").tobytes())


def _list_of(folder: pathlib.Path, part: Part) -> pathlib.Path:
    return folder / f"part-{part.number:05d}.bin"


def duplicates_of(folder: pathlib.Path, part: Part) -> np.ndarray:
    """The numbers of a part's documents that are left out; int64 [n], sorted."""
    return np.sort(np.fromfile(_list_of(folder, part), "<i8"))
