"""What `prepare` says: what the disk will need beforehand, and what was made afterwards."""

import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from roberta_jax.data.manifest import Manifest
from roberta_jax.data.part_writer import documents_of, dtype_of
from roberta_jax.data.parts import Part
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.validation_split import VALIDATION
from roberta_jax.wording import count_of

# Text from which the size of the rows is estimated.
SAMPLE_BYTES = 1 << 18


def say_size(
    parts: Sequence[Part],
    output: pathlib.Path,
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    say: Callable[[str], None],
) -> None:
    """Says what the disk will need, as far as the first text tells."""
    sample: list[list[str]] = []
    sample_bytes = 0
    for document in documents_of(parts[0], settings):
        sample.append(document.sentences)
        sample_bytes += sum(len(sentence.encode()) + 1 for sentence in document.sentences)
        if sample_bytes > SAMPLE_BYTES:
            break
    tokens = sum(map(len, tokenizer.encode_sentences(sample)))
    text_bytes = sum(
        span.file.text_bytes * span.bytes // max(span.file.bytes, 1)
        for part in parts
        for span in part.spans
    )
    needed = text_bytes * tokens // max(sample_bytes, 1) * np.dtype(dtype_of(tokenizer)).itemsize
    free = shutil.disk_usage(output.parent).free
    say(
        f"{count_of(len(parts), 'part')} with about {_size(text_bytes)} of text; the rows need "
        f"about {_size(needed)} of disk, and {_size(free)} are free"
        + ("; that may not be enough" if needed > free else "")
    )


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.3g} TB"


def summarize(manifest: Manifest, output: pathlib.Path, say: Callable[[str], None]) -> None:
    """Says what is in the dataset."""
    for name, split in manifest.splits.items():
        if not split.rows:
            continue
        padding: Any = split.padding_tokens / max(split.rows * manifest.sequence_length, 1)
        cut = "cut to fit" if manifest.label_slots else "divided over rows"
        say(
            f"{name}: {split.documents:,} documents, {split.sentences:,} sentences, "
            f"{split.tokens:,} tokens in {split.rows:,} rows of {manifest.sequence_length}, "
            f"{padding:.2%} padding, {split.over_long_sentences:,} sentences longer than a row "
            f"({cut}), unigram entropy {split.unigram_entropy_nats:.3f} nats, "
            f"{len(split.shards)} shards"
        )
        if split.examples != split.rows:
            say(f"{name}: {split.examples:,} examples, {split.examples / split.rows:.2f} per row")
        if manifest.label_slots:
            say(
                f"{name}: {split.next_pairs:,} pairs follow each other, {split.random_pairs:,} do "
                f"not; {split.truncated_tokens:,} tokens were left out to make pairs fit, "
                f"{split.repeated_tokens:,} stand in more than one pair"
            )
    odd = manifest.odd_text
    if odd["duplicates"]:
        say(f"{odd['duplicates']:,} documents were left out because they are there already")
    if odd["replaced"] or odd["skipped"]:
        say(
            f"lines or documents that are not UTF-8: {odd['replaced']:,} replaced, "
            f"{odd['skipped']:,} skipped"
        )
    if odd["special_names"]:
        say(
            f"the text spells special tokens, such as <mask>, {odd['special_names']:,} times; "
            "they were encoded as text"
        )
    if not manifest.splits[VALIDATION].rows:
        say(
            "The validation split is empty, so a run cannot be evaluated; --validation_input "
            "names a text for it."
        )
    say(f"written to {output}")
