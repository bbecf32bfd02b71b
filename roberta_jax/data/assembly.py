"""The parts of a corpus → one dataset folder: validation rows, names of shards, the manifest."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from roberta_jax.data.manifest import Manifest, Shard, Split
from roberta_jax.data.part_writer import (
    FREQUENCIES_NAME,
    PartResult,
    RowWriter,
    validation_documents,
)
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import TOKENIZER_FOLDER
from roberta_jax.data.rows import RowCounts
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.validation_split import TRAIN, VALIDATION
from roberta_jax.errors import UserError

# Fewer random pairs than this share of all: the text has too few borders between documents.
SMALLEST_RANDOM_SHARE = 0.25


def assemble(
    folder: pathlib.Path,
    part_folders: Sequence[pathlib.Path],
    results: Sequence[PartResult],
    *,
    planned: Manifest,
    tokenizer: Tokenizer,
    settings: PrepareSettings,
) -> Manifest:
    """Makes a dataset folder of the parts, which stay as they are.

    Args:
      folder: of the dataset, empty.
      part_folders: of all parts of the corpus, on the same disk.
      results: what became of the parts.
      planned: the manifest as far as it is known.
      tokenizer: what the ids were made with.
      settings: how the rows are made.
    """
    odd_text = {
        name: sum(getattr(result.read, name) for result in results)
        for name in ("replaced", "skipped", "special_names", "duplicates")
    }
    counts = _total(result.counts for result in results)
    validation = RowWriter(
        folder,
        VALIDATION,
        tokenizer=tokenizer,
        settings=settings,
        key=(settings.seed, len(results)),
    )
    for place in part_folders:
        for is_start, ids in validation_documents(place):
            validation.add(ids, starts_document=is_start)
    validation_shards = validation.close()
    made = [
        (place / shard.name, shard)
        for place, result in zip(part_folders, results, strict=True)
        for shard in result.shards
    ]
    train_shards = []
    for number, (path, shard) in enumerate(made):
        name = f"{TRAIN}-{number:05d}-of-{len(made):05d}.array_record"
        os.link(path, folder / name)  # Takes no room, and leaves the part whole.
        train_shards.append(dataclasses.replace(shard, name=name))
    frequencies = sum(np.load(place / FREQUENCIES_NAME) for place in part_folders)
    manifest = dataclasses.replace(
        planned,
        odd_text=odd_text,
        label_slots=validation.label_slots,
        splits={
            TRAIN: _split(counts, frequencies, train_shards, tokenizer),
            VALIDATION: _split(
                validation.counts, validation.frequencies, validation_shards, tokenizer
            ),
        },
    )
    tokenizer.save(folder / TOKENIZER_FOLDER)
    manifest.tokenizer_files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / TOKENIZER_FOLDER).iterdir())
    }
    manifest.save(folder)
    return manifest


def _split(
    counts: RowCounts, frequencies: np.ndarray, shards: list[Shard], tokenizer: Tokenizer
) -> Split:
    return Split(
        **dataclasses.asdict(counts),
        unigram_entropy_nats=_entropy_nats(np.delete(frequencies, tokenizer.special_ids)),
        shards=shards,
    )


def check_counts(settings: PrepareSettings, results: Sequence[PartResult]) -> None:
    """Raises UserError where a corpus does not give what was asked for."""
    train = _total(result.counts for result in results)
    pairs = train.next_pairs + train.random_pairs
    if settings.has_pairs and train.documents and not train.next_pairs:
        raise UserError(
            f"The format {settings.format} needs documents of several sentences, but none of the "
            f"{train.documents:,} documents has two. --plain_text_documents says what a document "
            "is, --sentence_splitter how it is cut. Or choose --format=doc_sentences."
        )
    if train.tokens < settings.sequence_length:
        left_out = {
            "not UTF-8": sum(result.read.skipped for result in results),
            "duplicates": sum(result.read.duplicates for result in results),
        }
        reasons = [f"{count:,} as {why}" for why, count in left_out.items() if count]
        raise UserError(
            f"The corpus is too small: {train.documents:,} documents with {train.tokens:,} tokens "
            f"do not fill one row of {settings.sequence_length}"
            + (f" (left out were {', '.join(reasons)})" if reasons else "")
            + ". Give more text or a shorter --sequence_length."
        )
    if settings.has_pairs and train.random_pairs < SMALLEST_RANDOM_SHARE * pairs:
        raise UserError(
            f"The format {settings.format} takes the second text of half of its pairs from another "
            f"document of the same part of the corpus, but of {pairs:,} pairs only "
            f"{train.random_pairs:,} found one: there are {train.documents:,} documents, too few "
            "or too large for it. In plain text, a blank line ends a document "
            "(--plain_text_documents says otherwise). Or choose --format=doc_sentences."
        )


def _total(counts: Iterable[RowCounts]) -> RowCounts:
    total = RowCounts()
    for one in counts:
        for field in dataclasses.fields(RowCounts):
            setattr(total, field.name, getattr(total, field.name) + getattr(one, field.name))
    return total


def _entropy_nats(frequencies: np.ndarray) -> float:
    """-sum p log p of counts [V]; 0 for none."""
    shares = frequencies[frequencies > 0] / max(frequencies.sum(), 1)
    return float((shares * -np.log(shares)).sum())
