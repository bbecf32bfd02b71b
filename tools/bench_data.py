"""Text to rows to batches, as fast as this machine does it: encoding, `prepare`, the loader.

    python tools/bench_data.py --input='books/*.jsonl.gz'

- Encoding: the ids of documents, by a process per core as in `prepare`, against `encode_batch` of
  Hugging Face tokenizers with the same vocabulary on the same cores. Both take turns; the ids must
  be the same.
- `prepare` as a whole: reading, encoding, packing, writing, per byte of uncompressed text.
- The loader: tokens per second from records, for every number of processes that read; and the time
  to the first batch at step 10^9 of a dataset of 10^9 rows, whose rows are made up.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import absl.flags
import numpy as np
import tokenizers

from roberta_jax.data.corpus import read_documents
from roberta_jax.data.inputs import find_files
from roberta_jax.data.loader import Loader
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.processes import cores
from roberta_jax.data.records import open_dataset
from roberta_jax.data.runners import LocalRunner
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import (
    TrainingSettings,
    load_tokenizer,
    train_tokenizer_folder,
)

SEQUENCE_LENGTH, BATCH_SIZE = 512, 256

_tokenizer: Tokenizer  # Of an encoding process.


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", action="append", required=True, help="as for prepare")
    parser.add_argument("--tokenizer", help="a tokenizer folder; else one is trained")
    parser.add_argument("--vocab_size", type=int, default=50_265)
    parser.add_argument("--encode_megabytes", type=int, default=25, help="text of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    absl.flags.FLAGS.mark_as_parsed()  # grain's worker processes ask for them.
    print(f"{cores()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        tokenizer_folder = options.tokenizer or _train(options, folder / "tokenizer")
        _encoding(options, load_tokenizer(tokenizer_folder))
        dataset = _prepare(options, tokenizer_folder, folder / "dataset")
        _loader(dataset, options.rounds)
        _first_batch(options.rounds)


def _train(options: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    settings = TrainingSettings(kind="byte_bpe", vocab_size=options.vocab_size)
    seconds = _seconds(
        lambda: train_tokenizer_folder(
            inputs=options.input, output=folder, settings=settings, say=_quiet
        )
    )
    print(f"tokenizer: {options.vocab_size:,} entries trained in {seconds:.1f} s")
    return folder


def _encoding(options: argparse.Namespace, tokenizer: Tokenizer) -> None:
    """Every round has text of its own: what was met before is remembered, as in `prepare`."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(pathlib.Path(folder))
        peer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    ours, theirs, bare = "roberta_jax", "encode_batch", "encode_batch_fast"
    times: dict[str, list[float]] = {name: [] for name in (ours, theirs, bare)}
    total = num_ids = 0
    pool = futures.ProcessPoolExecutor(
        cores(), multiprocessing.get_context("spawn"), _start, (tokenizer,)
    )
    with pool:
        list(pool.map(_encode, [[]] * cores()))
        for documents, size in _texts(options.input, options.encode_megabytes, options.rounds):
            shares = [documents[i :: 4 * cores()] for i in range(4 * cores())]
            start = time.perf_counter()
            ids = np.concatenate(list(pool.map(_encode, shares)))
            times[ours].append(time.perf_counter() - start)
            sentences = [text for share in shares for group in share for text in group]
            for name, encode_batch in (
                (theirs, peer.encode_batch),
                (bare, peer.encode_batch_fast),  # Without offsets.
            ):
                start = time.perf_counter()
                found = [
                    encoding.ids
                    for first in range(0, len(sentences), 20_000)
                    for encoding in encode_batch(
                        sentences[first : first + 20_000], add_special_tokens=False
                    )
                ]
                times[name].append(time.perf_counter() - start)
                end = [tokenizer.eos_id]
                np.testing.assert_array_equal(
                    ids, np.fromiter(itertools.chain(*(one + end for one in found)), np.int64)
                )
            total, num_ids = total + size, num_ids + len(ids)
    print(f"encoding, the same {num_ids:,} ids in {len(times[ours])} texts:")
    for name, seconds in times.items():
        ratios = [b / a for a, b in zip(times[ours], seconds, strict=True)]
        print(
            f"  {name}: {total / sum(seconds) / 1e6:.2f} MB/s; roberta_jax is as fast "
            f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def _texts(
    inputs: Sequence[str], megabytes: int, rounds: int
) -> Iterator[tuple[list[list[str]], int]]:
    """Documents with together so many megabytes, and their size; a few times."""
    documents: list[list[str]] = []
    size = 0
    for document in read_documents(find_files(inputs)):
        documents.append(document.sentences)
        size += sum(len(sentence.encode()) + 1 for sentence in document.sentences)
        if size >= megabytes * 1_000_000:
            yield documents, size
            documents, size, rounds = [], 0, rounds - 1
            if not rounds:
                return


def _start(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer


def _encode(documents: list[list[str]]) -> np.ndarray:
    """In a process: the ids of documents, each sentence followed by `</s>`."""
    batches = [
        ids
        for first in range(0, len(documents), 32)
        for ids in _tokenizer.encode_sentences(documents[first : first + 32])
    ]
    return np.concatenate([np.zeros(0, np.uint16), *(ids.astype(np.uint16) for ids in batches)])


def _prepare(
    options: argparse.Namespace, tokenizer_folder: str | pathlib.Path, folder: pathlib.Path
) -> pathlib.Path:
    text_bytes = sum(
        len(sentence.encode()) + 1
        for document in read_documents(find_files(options.input))
        for sentence in document.sentences
    )
    seconds = _seconds(
        lambda: prepare(
            inputs=options.input,
            tokenizer_folder=tokenizer_folder,
            output=folder,
            settings=PrepareSettings(sequence_length=SEQUENCE_LENGTH),
            runner=LocalRunner(),
            say=_quiet,
        )
    )
    print(f"prepare: {text_bytes / seconds / 1e6:.1f} MB/s ({text_bytes / 1e6:.0f} MB, all of it)")
    return folder


def _loader(folder: pathlib.Path, rounds: int) -> None:
    dataset = open_dataset(folder, "train")
    for num_workers in (0, 1, 2):
        rates = []
        for _ in range(rounds):
            loader = Loader(dataset, batch_size=BATCH_SIZE, seed=0, num_workers=num_workers)
            with contextlib.closing(loader.batches()) as batches:
                next(batches)
                seconds = _seconds(lambda: _take(batches, 100))
            rates.append(100 * BATCH_SIZE * SEQUENCE_LENGTH / seconds)
        print(
            f"loader, {num_workers} processes beside this one: "
            f"{statistics.median(rates) / 1e6:.1f}M tokens/s"
        )


class _MadeUpRows:
    """10^9 rows that are computed when they are read."""

    folder, split, fingerprint = pathlib.Path("made-up"), "train", "0"

    def __len__(self) -> int:
        return 10**9

    def read(self, indices: np.ndarray) -> np.ndarray:
        return np.broadcast_to(indices[:, None] % 50_000, (len(indices), SEQUENCE_LENGTH))


def _first_batch(rounds: int) -> None:
    rows: Any = _MadeUpRows()

    def once() -> None:
        loader = Loader(rows, batch_size=8192, seed=0)
        with contextlib.closing(loader.batches(10**9 * 8192)) as batches:
            next(batches)

    seconds = [_seconds(once) for _ in range(rounds)]
    print(
        f"loader: first batch of 8,192 rows at step 10^9 of 10^9 rows after "
        f"{statistics.median(seconds):.2f} s"
    )


def _take(batches: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _quiet(line: str) -> None:
    """What `prepare` says is of no interest here."""


if __name__ == "__main__":
    main()
