"""The parts of a corpus → one dataset folder: validation rows, names of shards, the manifest."""

import dataclasses
import pathlib
import shutil
from collections.abc import Iterable, Sequence

import numpy as np

from roberta_jax.data.manifest import Manifest, Shard, Split
from roberta_jax.data.part_pool import part_folder
from roberta_jax.data.part_writer import (
    FREQUENCIES_NAME,
    PartResult,
    RowWriter,
    validation_documents,
)
from roberta_jax.data.parts import Part
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
    planned: Manifest,
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    parts: Sequence[Part],
    results: Sequence[PartResult],
) -> Manifest:
    """Makes the validation rows, gives all shards their names, writes manifest and tokenizer.

    Args:
      folder: of the dataset; holds the folders of the parts, which vanish.
      planned: the manifest as far as it is known.
      tokenizer: what the ids were made with.
      settings: how the rows are made.
      parts: all of the corpus.
      results: what became of them.

    Raises:
      UserError: the corpus does not give what was asked for.
    """
    folders = [part_folder(folder, part) for part in parts]
    validation = RowWriter(
        folder,
        VALIDATION,
        tokenizer=tokenizer,
        settings=settings,
        key=(settings.seed, len(parts)),
    )
    for place in folders:
        for is_start, ids in validation_documents(place):
            validation.add(ids, starts_document=is_start)
    odd_text = {
        name: sum(getattr(result.read, name) for result in results)
        for name in ("replaced", "skipped", "special_names")
    }
    planned = dataclasses.replace(planned, odd_text=odd_text, label_slots=validation.label_slots)
    counts = _total(result.counts for result in results)
    try:
        _check_counts(planned, counts, odd_text["skipped"])
    except UserError:
        for place in folders:  # Of no use to a run that other text or settings make different.
            shutil.rmtree(place)
        raise
    shards = [
        (place / shard.name, shard)
        for place, result in zip(folders, results, strict=True)
        for shard in result.shards
    ]
    named = [
        dataclasses.replace(shard, name=f"{TRAIN}-{number:05d}-of-{len(shards):05d}.array_record")
        for number, (_, shard) in enumerate(shards)
    ]
    for (path, _), shard in zip(shards, named, strict=True):
        path.rename(folder / shard.name)
    frequencies = sum(np.load(place / FREQUENCIES_NAME) for place in folders)
    manifest = dataclasses.replace(
        planned,
        splits={
            TRAIN: _split(counts, frequencies, named, tokenizer),
            VALIDATION: _split(
                validation.counts, validation.frequencies, validation.close(), tokenizer
            ),
        },
    )
    for place in folders:
        shutil.rmtree(place)
    tokenizer.save(folder / TOKENIZER_FOLDER)
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


def _check_counts(planned: Manifest, train: RowCounts, skipped: int) -> None:
    """Refuses a corpus that does not give what was asked for."""
    if train.tokens < planned.sequence_length:
        raise UserError(
            f"The corpus is too small: {train.documents} documents with {train.tokens} tokens do "
            f"not fill one row of {planned.sequence_length} ({skipped} pieces of text were "
            "skipped because they are not UTF-8). Give more text or a shorter --sequence_length."
        )
    pairs = train.next_pairs + train.random_pairs
    if planned.label_slots and train.random_pairs < SMALLEST_RANDOM_SHARE * pairs:
        raise UserError(
            f"The format {planned.format} takes the second text of half of its pairs from another "
            f"document, but of {pairs:,} pairs only {train.random_pairs:,} found one: the corpus "
            f"has {train.documents:,} documents. In plain text, a blank line ends a document "
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
