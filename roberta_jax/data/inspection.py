"""What is in a prepared dataset, for a person to look at; and whether all of it is intact."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np

from roberta_jax.data.manifest import Manifest
from roberta_jax.data.order import evenly_spaced
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.records import TOKENIZER_FOLDER, RecordDataset, open_dataset
from roberta_jax.data.rows import NextSentence, segment_ids
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError

# Rows that a histogram is made of, evenly spaced; reading them takes a fraction of a second.
HISTOGRAM_ROWS = 4096
HISTOGRAM_BINS = 8
_BAR_CHARACTERS = 40
_VERIFY_ROWS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the examples and of the sentences of some rows, each an int array [n]."""

    examples: np.ndarray
    sentences: np.ndarray


def lengths_of(tokens: np.ndarray, tokenizer: Tokenizer) -> Lengths:
    """The lengths in rows [n, T]: of examples with their special tokens, of sentences without.

    A sentence is what stands before a `</s>`; a cut one counts as several.
    """
    segments = segment_ids(tokens, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id)
    numbered = segments + np.arange(len(tokens))[:, None] * (tokens.shape[1] + 1)
    _, examples = np.unique(numbered[segments > 0], return_counts=True)
    flat = tokens.ravel()
    is_border = (flat == tokenizer.eos_id) | (flat == tokenizer.bos_id)
    borders = np.flatnonzero(is_border)
    gaps = np.diff(borders) - 1
    ends = flat[borders[1:]] == tokenizer.eos_id
    return Lengths(examples=examples, sentences=gaps[ends & (gaps > 0)])


def histogram(lengths: np.ndarray, *, bins: int = HISTOGRAM_BINS) -> list[str]:
    """Lines of text that draw how often which lengths [n] occur."""
    if not len(lengths):
        return ["  none"]
    shortest, longest = int(lengths.min()), int(lengths.max())
    step = -(-(longest - shortest + 1) // bins)
    counts = np.bincount((lengths - shortest) // step)
    width = len(f"{longest:,}")
    lines = []
    for number, count in enumerate(counts.tolist()):
        low = shortest + number * step
        high = min(low + step - 1, longest)
        bar = "█" * round(_BAR_CHARACTERS * count / counts.max())
        lines.append(
            f"  {low:{width},} to {high:{width},} tokens {count / len(lengths):6.1%} {bar}"
        )
    return lines


def describe(folder: str | pathlib.Path) -> Iterator[str]:
    """What the manifest of a dataset says, line by line, and the lengths in its rows.

    Raises UserError when the folder is no dataset or not whole.
    """
    folder = local_path(folder)
    manifest = Manifest.load(folder)
    tokenizer = RecordDataset(folder, next(iter(manifest.splits)), manifest).tokenizer()
    rows = "packed rows" if manifest.attention == "example" else "rows"
    yield (
        f"{folder}: {manifest.format}, {rows} of {manifest.sequence_length} tokens as "
        f"{manifest.dtype}, fingerprint {manifest.fingerprint}, by {manifest.created_by}"
    )
    yield (
        f"tokenizer: {manifest.tokenizer.kind}, {manifest.tokenizer.vocab_size:,} entries, "
        f"fingerprint {manifest.tokenizer.fingerprint}"
    )
    yield "settings: " + ", ".join(f"{name}={value}" for name, value in manifest.settings.items())
    yield "odd text: " + ", ".join(f"{name} {count:,}" for name, count in manifest.odd_text.items())
    for item in manifest.inputs:
        yield f"input ({item['split']}): {item['path']}, {item['bytes']:,} bytes"
    for name, split in manifest.splits.items():
        fill = 1 - split.padding_tokens / max(split.rows * manifest.sequence_length, 1)
        yield ""
        yield (
            f"{name}: {split.documents:,} documents, {split.sentences:,} sentences, "
            f"{split.tokens:,} tokens, {split.examples:,} examples in {split.rows:,} rows, "
            f"{fill:.2%} filled, {len(split.shards)} shards, "
            f"{sum(shard.bytes for shard in split.shards):,} bytes"
        )
        if manifest.label_slots:
            yield f"  pairs: {split.next_pairs:,} next, {split.random_pairs:,} random"
        dataset = open_dataset(folder, name)
        if not len(dataset):
            continue
        index = evenly_spaced(len(dataset), HISTOGRAM_ROWS)
        lengths = lengths_of(dataset.read(index), tokenizer)
        yield f"  examples (of {len(index):,} rows):"
        yield from ("  " + line for line in histogram(lengths.examples))
        yield f"  {'segments' if manifest.label_slots else 'sentences'} of these:"
        yield from ("  " + line for line in histogram(lengths.sentences))


def label_names(dataset: RecordDataset, index: int) -> list[str]:
    """The next-sentence labels of a row's examples: "next" or "random"; none without pairs."""
    (labels,) = dataset.read_labels(np.array([index]))
    return [NextSentence(value).name.lower() for value in labels.tolist() if value]


def verify_dataset(folder: str | pathlib.Path) -> Iterator[str]:
    """Reads every record of a dataset and compares every shard with the manifest's checksum.

    Yields:
      A line for the tokenizer and for every shard that is intact.

    Raises:
      UserError: something is damaged or missing; all of it is named.
    """
    folder = local_path(folder)
    manifest = Manifest.load(folder)
    damaged = []
    try:
        RecordDataset(folder, next(iter(manifest.splits)), manifest).tokenizer()
        for name, sha256 in manifest.tokenizer_files.items():
            if _digest(folder / TOKENIZER_FOLDER / name) != sha256:
                raise UserError(f"{name} is missing, or another file than was written")
        yield f"{TOKENIZER_FOLDER}: intact"
    except UserError as error:
        damaged.append(f"{TOKENIZER_FOLDER}: {error}")
    for name, split in manifest.splits.items():
        first = 0
        dataset = RecordDataset(folder, name, manifest)
        for shard in split.shards:
            reason = _what_is_wrong(dataset, folder / shard.name, shard.sha256, first, shard.rows)
            first += shard.rows
            if reason:
                damaged.append(f"{shard.name}: {reason}")
            else:
                yield f"{shard.name}: {shard.rows:,} rows, intact"
    if damaged:
        raise UserError(
            f"{folder} is not what was written: {'; '.join(damaged)}. Copy what is damaged again "
            "from where it is intact, or prepare the dataset again with --overwrite."
        )


def _what_is_wrong(
    dataset: RecordDataset, path: pathlib.Path, sha256: str, first: int, rows: int
) -> str:
    digest = _digest(path)
    if not digest:
        return "it is missing or cannot be read"
    if digest == sha256:
        wrong = "although its checksum is right, "
    else:
        wrong = f"its sha256 is {digest[:16]}… and should be {sha256[:16]}…; "
    for begin in range(first, first + rows, _VERIFY_ROWS):
        index = np.arange(begin, min(begin + _VERIFY_ROWS, first + rows))
        try:
            dataset.read(index)
        except UserError as error:
            bad = next(i for i in index.tolist() if _is_damaged(dataset, i)) - first
            return f"{wrong}record {bad:,} cannot be read ({error})"
    return "" if digest == sha256 else wrong + "all records can be read"


def _digest(path: pathlib.Path) -> str:
    """The sha256 of a file; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _is_damaged(dataset: RecordDataset, index: int) -> bool:
    try:
        dataset.read(np.array([index]))
    except UserError:
        return True
    return False
