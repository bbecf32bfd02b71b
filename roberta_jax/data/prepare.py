"""Raw text → a prepared dataset: its parts are made by themselves, then named and described.

A part is read, tokenised, packed and written in one streaming pass (`part_writer`), by several
processes at once (`part_pool`). A run that stops goes on from the parts that are finished.
"""

import dataclasses
import importlib.metadata
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from roberta_jax.data.assembly import assemble, check_counts
from roberta_jax.data.corpus import Document, read_documents
from roberta_jax.data.inputs import InputFile, find_files, overlap
from roberta_jax.data.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Manifest,
    TokenizerIdentity,
)
from roberta_jax.data.output_folder import (
    kept_folder,
    local_path,
    new_folder,
    remove_unfinished,
)
from roberta_jax.data.part_pool import finished_parts, make_parts, part_folder
from roberta_jax.data.part_writer import RESULT_NAME, PartResult, dtype_of
from roberta_jax.data.parts import Part, plan_parts
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import open_dataset
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.data.validation_split import TRAIN, VALIDATION
from roberta_jax.errors import UserError

# Text from which the size of the rows is estimated.
SAMPLE_BYTES = 1 << 18


def prepare(
    *,
    inputs: Sequence[str],
    tokenizer_folder: str | pathlib.Path,
    output: str | pathlib.Path,
    settings: PrepareSettings,
    validation_inputs: Sequence[str] = (),
    overwrite: bool = False,
    num_processes: int = 0,
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
      num_processes: that work at once; 0: one per core. It never changes the rows.
      say: takes the summary, line by line.

    Returns:
      The manifest of the dataset.

    Raises:
      UserError: something given cannot be used.
      MachineError: the disk is full or the output cannot be written.
      The output is never half-written: finished parts stay in `OUTPUT.unfinished`, and the same
      call goes on from there. Without any, nothing is left behind.
    """
    settings.validate()
    if num_processes < 0:
        raise UserError(f"num_processes is {num_processes}; it must be 0 or more.")
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
    if shared := overlap(files[TRAIN], files[VALIDATION]):
        raise UserError(
            f"The validation input {shared[0]} is also an input for training ({len(shared)} such "
            "files). Validation text must not be trained on: give other files, or leave "
            "--validation_input out to set a share of the documents aside."
        )
    planned = _plan(settings, tokenizer, files)
    if _is_there(output, planned, overwrite):
        remove_unfinished(output)
        say(f"{output} has the same inputs and settings; there is nothing to do.")
        return Manifest.load(output)
    parts = plan_parts(files, divide_plain_text=settings.plain_text_documents != "file")
    key_settings = {
        **planned.settings,
        "tokenizer": planned.tokenizer.fingerprint,
        "created_by": planned.created_by,
        "format_version": planned.format_version,
    }
    keys = [part.key(key_settings) for part in parts]
    with kept_folder(output, _has_finished_parts) as unfinished:
        finished = finished_parts(unfinished, parts, keys)
        if finished:
            say(f"going on: {len(finished):,} of {len(parts):,} parts are finished")
        else:
            _say_size(parts, output, tokenizer, settings, say)
        try:
            results = make_parts(
                parts,
                keys,
                unfinished,
                tokenizer=tokenizer,
                settings=settings,
                num_processes=num_processes,
            )
            _check(unfinished, settings, results)
            with new_folder(output) as partial:
                manifest = assemble(
                    partial,
                    [part_folder(unfinished, part) for part in parts],
                    results,
                    planned=planned,
                    tokenizer=tokenizer,
                    settings=settings,
                )
        except BaseException:
            kept = len(finished_parts(unfinished, parts, keys))
            if kept:
                say(
                    f"stopped: {kept:,} of {len(parts):,} parts are finished and stay in "
                    f"{unfinished}; the same command goes on from there"
                )
            raise
    _summarize(manifest, output, say)
    return manifest


def _check(
    unfinished: pathlib.Path, settings: PrepareSettings, results: Sequence[PartResult]
) -> None:
    try:
        check_counts(settings, results)
    except UserError:
        finished_parts(unfinished, [], [])  # Of no use where other text or settings are needed.
        raise


def _has_finished_parts(folder: pathlib.Path) -> bool:
    return any(folder.glob(f"*/{RESULT_NAME}"))


def _plan(
    settings: PrepareSettings, tokenizer: Tokenizer, files: dict[str, list[InputFile]]
) -> Manifest:
    """The manifest as far as it is known before any text is read."""
    return Manifest(
        format_version=FORMAT_VERSION,
        format=settings.format,
        sequence_length=settings.sequence_length,
        attention=settings.attention,
        label_slots=0,
        tokenizer=TokenizerIdentity(
            kind=tokenizer.kind, vocab_size=tokenizer.vocab_size, fingerprint=tokenizer.fingerprint
        ),
        dtype=dtype_of(tokenizer),
        splits={},
        settings=dataclasses.asdict(settings),
        inputs=[
            {**dataclasses.asdict(file), "split": split} for split in files for file in files[split]
        ],
        odd_text={},
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


def _say_size(
    parts: Sequence[Part],
    output: pathlib.Path,
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    say: Callable[[str], None],
) -> None:
    """Says what the disk will need, as far as the first text tells."""
    sample: list[list[str]] = []
    sample_bytes = 0
    for document in _documents_of(parts[0], settings):
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
        f"{len(parts):,} parts with about {_size(text_bytes)} of text; the rows need about "
        f"{_size(needed)} of disk, and {_size(free)} are free"
        + ("; that may not be enough" if needed > free else "")
    )


def _documents_of(part: Part, settings: PrepareSettings) -> Iterator[Document]:
    return read_documents(
        part.spans,
        text_field=settings.text_field,
        sentence_splitter=settings.sentence_splitter,
        language=settings.language,
        plain_text_documents=settings.plain_text_documents,
        on_bad_text=settings.on_bad_text,
    )


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.3g} TB"


def _summarize(manifest: Manifest, output: pathlib.Path, say: Callable[[str], None]) -> None:
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
