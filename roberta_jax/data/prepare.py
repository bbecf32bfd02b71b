"""Raw text → a prepared dataset: read, tokenise, pack, write, all in one streaming pass.

This process reads and packs while others encode. Memory holds a few megabytes of text and rows at a
time, whatever the size of the corpus.
"""

import dataclasses
import functools
import importlib.metadata
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from roberta_jax.data.corpus import Document, ReadCounts, read_documents
from roberta_jax.data.encoding import encode_documents, processes_for
from roberta_jax.data.formats import FullSentencesPacker
from roberta_jax.data.inputs import InputFile, find_files
from roberta_jax.data.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Manifest,
    Split,
    TokenizerIdentity,
)
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.data.progress import Progress
from roberta_jax.data.records import TOKENIZER_FOLDER, ShardWriter, open_dataset
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.data.validation_split import (
    TRAIN,
    VALIDATION,
    split_documents,
    systematic_sample,
)
from roberta_jax.errors import UserError

FORMATS = ("full_sentences",)
DEFAULT_VALIDATION_FRACTION = 0.01
# Rows are written when so many tokens have come together.
UNWRITTEN_TOKENS = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSettings:
    """What decides the rows, apart from the input files and the tokenizer."""

    format: str = "full_sentences"
    sequence_length: int = 512  # Tokens per row.
    # Of the documents; 0 with a validation input.
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION
    text_field: str = "text"
    sentence_splitter: str = "line"
    on_bad_text: str = "error"
    rows_per_shard: int = 1 << 20

    def validate(self) -> None:
        """Raises UserError for a value that cannot be used; the readers check the others."""
        if self.format not in FORMATS:
            raise UserError(f"format is {self.format!r}; it must be one of {', '.join(FORMATS)}.")
        systematic_sample(self.validation_fraction)
        if self.rows_per_shard < 1:
            raise UserError(f"rows_per_shard is {self.rows_per_shard}; it must be at least 1.")


def prepare(
    *,
    inputs: Sequence[str],
    tokenizer_folder: str | pathlib.Path,
    output: str | pathlib.Path,
    settings: PrepareSettings,
    validation_inputs: Sequence[str] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Manifest:
    """Writes the dataset folder `output`, or finds that it is there already.

    Args:
      inputs: files, folders, globs.
      tokenizer_folder: what `roberta-jax tokenizer` wrote; a copy goes into the dataset.
      output: a local folder.
      settings: how the rows are made.
      validation_inputs: text of the validation split; `settings.validation_fraction` must then be
        0.
      overwrite: make the dataset again, whatever inputs and settings the present one has.
      say: takes the summary, line by line.

    Returns:
      The manifest of the dataset.

    Raises:
      UserError: something given cannot be used; nothing is left behind.
      MachineError: the disk is full or the output cannot be written; nothing is left behind.
    """
    settings.validate()
    if validation_inputs and settings.validation_fraction:
        raise UserError(
            "There is a validation input and a validation_fraction of "
            f"{settings.validation_fraction}. Give one of them: the files of the validation split, "
            "or the share of the documents that it takes."
        )
    output = local_path(output)
    tokenizer = load_tokenizer(tokenizer_folder)
    files = {
        TRAIN: find_files(inputs),
        VALIDATION: find_files(validation_inputs) if validation_inputs else [],
    }
    planned = _plan(settings, tokenizer, files)
    if _is_there(output, planned, overwrite):
        say(f"{output} has the same inputs and settings; there is nothing to do.")
        return Manifest.load(output)
    with new_folder(output) as partial:
        manifest = _write(partial, planned, tokenizer, files, settings)
    _summarize(manifest, output, say)
    return manifest


def _plan(
    settings: PrepareSettings, tokenizer: Tokenizer, files: dict[str, list[InputFile]]
) -> Manifest:
    """The manifest as far as it is known before any text is read."""
    return Manifest(
        format_version=FORMAT_VERSION,
        format=settings.format,
        sequence_length=settings.sequence_length,
        tokenizer=TokenizerIdentity(
            kind=tokenizer.kind, vocab_size=tokenizer.vocab_size, fingerprint=tokenizer.fingerprint
        ),
        dtype="uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32",
        splits={},
        settings=dataclasses.asdict(settings),
        inputs=[
            {**dataclasses.asdict(file), "split": split} for split in files for file in files[split]
        ],
        bad_text={},
        created_by=f"roberta_jax {_version()}",
    )


def _version() -> str:
    try:
        return importlib.metadata.version("roberta-jax")
    except importlib.metadata.PackageNotFoundError:  # Run from a checkout that was never installed.
        return "unknown"


def _is_there(output: pathlib.Path, planned: Manifest, overwrite: bool) -> bool:
    """Whether the output is what would be made.

    Raises UserError when it is something else that may not be replaced.
    """
    if not output.exists():
        return False
    if not (output / MANIFEST_NAME).is_file():
        raise UserError(
            f"The output {output} exists and is no prepared dataset. Choose another --output."
        )
    if overwrite:
        return False
    differences = _differences(output, planned)
    if differences:
        raise UserError(
            f"The output {output} exists and differs: {'; '.join(differences)}. Choose another "
            "--output, or --overwrite to replace it."
        )
    for split in (TRAIN, VALIDATION):
        open_dataset(output, split)  # Raises when a shard is missing or cut off.
    return True


def _differences(output: pathlib.Path, planned: Manifest) -> list[str]:
    there = Manifest.load(output)
    differences = [
        f"{name} was {there.settings.get(name)!r} and is {value!r}"
        for name, value in planned.settings.items()
        if there.settings.get(name) != value
    ]
    if there.tokenizer != planned.tokenizer:
        differences.append(
            f"the tokenizer was {there.tokenizer.fingerprint} and is "
            f"{planned.tokenizer.fingerprint}"
        )
    if there.inputs != planned.inputs:
        old = {(item["path"], item["split"]): item for item in there.inputs}
        new = {(item["path"], item["split"]): item for item in planned.inputs}
        changed = [
            key[0] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
        ]
        differences.append(
            f"{len(changed)} input files were added, removed or changed, such as {changed[:1]}"
        )
    return differences


def _write(
    partial: pathlib.Path,
    planned: Manifest,
    tokenizer: Tokenizer,
    files: dict[str, list[InputFile]],
    settings: PrepareSettings,
) -> Manifest:
    tokenizer.save(partial / TOKENIZER_FOLDER)
    packers = {
        split: FullSentencesPacker(
            settings.sequence_length,
            bos_id=tokenizer.bos_id,
            pad_id=tokenizer.pad_id,
            eos_id=tokenizer.eos_id,
        )
        for split in files
    }
    writers = {
        split: ShardWriter(
            partial, split, dtype=planned.dtype, rows_per_shard=settings.rows_per_shard
        )
        for split in files
    }
    frequencies = {split: np.zeros(tokenizer.vocab_size, np.int64) for split in files}

    def write_finished_rows() -> None:
        for split, packer in packers.items():
            rows = packer.take_rows()
            # An id outside the embedding table would silently become garbage on an accelerator.
            assert rows.size == 0 or 0 <= rows.min() <= rows.max() < tokenizer.vocab_size, (
                "token id outside the vocabulary"
            )
            frequencies[split] += np.bincount(rows.ravel(), minlength=tokenizer.vocab_size)
            writers[split].write(rows)

    counts = ReadCounts()
    total_bytes = sum(file.bytes for split in files.values() for file in split)
    tokens = unwritten = 0
    with Progress("preparing", total_bytes) as progress:
        for split, is_start, ids in encode_documents(
            tokenizer,
            _documents(files, settings, counts),
            num_processes=processes_for(total_bytes),
        ):
            packers[split].add(ids, starts_document=is_start)
            tokens += len(ids)
            unwritten += len(ids)
            if unwritten > UNWRITTEN_TOKENS:
                unwritten = 0
                write_finished_rows()
            documents = sum(packer.counts.documents for packer in packers.values())
            detail = f"{documents:,} documents  {tokens / 1e6:.1f}M tokens"
            progress.update(counts.stored_bytes, counts.text_bytes, detail)
    for packer in packers.values():
        packer.finish()
    write_finished_rows()
    train = packers[TRAIN].counts
    if train.tokens < settings.sequence_length:
        raise UserError(
            f"The corpus is too small: {train.documents} documents with {train.tokens} tokens do "
            f"not fill one row of {settings.sequence_length} ({counts.skipped} pieces of text were "
            "skipped because they are not UTF-8). Give more text or a shorter --sequence_length."
        )
    manifest = dataclasses.replace(
        planned,
        splits={
            split: Split(
                **dataclasses.asdict(packers[split].counts),
                unigram_entropy_nats=_entropy_nats(
                    np.delete(frequencies[split], tokenizer.special_ids)
                ),
                shards=writers[split].close(),
            )
            for split in files
        },
        bad_text={"replaced": counts.replaced, "skipped": counts.skipped},
    )
    manifest.save(partial)
    return manifest


def _documents(
    files: dict[str, list[InputFile]], settings: PrepareSettings, counts: ReadCounts
) -> Iterator[tuple[str, Document]]:
    """Every document, or piece of one, with its split."""
    read = functools.partial(
        read_documents,
        text_field=settings.text_field,
        sentence_splitter=settings.sentence_splitter,
        on_bad_text=settings.on_bad_text,
        counts=counts,
    )
    yield from split_documents(read(files[TRAIN]), settings.validation_fraction)
    for document in read(files[VALIDATION]):
        yield VALIDATION, document


def _entropy_nats(frequencies: np.ndarray) -> float:
    """-sum p log p of counts [V]; 0 for none."""
    shares = frequencies[frequencies > 0] / max(frequencies.sum(), 1)
    return float((shares * -np.log(shares)).sum())


def _summarize(manifest: Manifest, output: pathlib.Path, say: Callable[[str], None]) -> None:
    for name, split in manifest.splits.items():
        if not split.rows:
            continue
        padding: Any = split.padding_tokens / max(split.rows * manifest.sequence_length, 1)
        say(
            f"{name}: {split.documents:,} documents, {split.sentences:,} sentences, "
            f"{split.tokens:,} tokens in {split.rows:,} rows of {manifest.sequence_length}, "
            f"{padding:.2%} padding, {split.over_long_sentences:,} sentences longer than a row "
            f"(divided over rows), unigram entropy {split.unigram_entropy_nats:.3f} nats, "
            f"{len(split.shards)} shards"
        )
    if sum(manifest.bad_text.values()):
        say(
            f"lines or JSON documents that are not UTF-8: {manifest.bad_text['replaced']:,} "
            f"replaced, {manifest.bad_text['skipped']:,} skipped"
        )
    if not manifest.splits[VALIDATION].rows:
        say(
            "The validation split is empty, so a run cannot be evaluated; --validation_input "
            "names a text for it."
        )
    say(f"written to {output}")
