"""Raw text → a prepared dataset: its parts are made by themselves, then named and described.

A part is read, tokenised, packed and written in one streaming pass (`part_writer`), by several
processes or machines at once (`runners`). A run that stops goes on from the parts that are
finished.
"""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping, Sequence

from roberta_jax.data.assembly import assemble, check_counts
from roberta_jax.data.duplicates import HashParts, find_duplicates, hash_folder
from roberta_jax.data.formats import make_packer
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
from roberta_jax.data.part_work import (
    WriteParts,
    finished_parts,
    part_folder,
    remove_all_but,
)
from roberta_jax.data.part_writer import RESULT_NAME, PartResult, dtype_of
from roberta_jax.data.parts import Part, plan_parts
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.prepare_summary import say_size, summarize
from roberta_jax.data.records import open_dataset
from roberta_jax.data.runners import LocalRunner, Runner
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.data.validation_split import TRAIN, VALIDATION
from roberta_jax.errors import MachineError, UserError
from roberta_jax.wording import count_of

_DUPLICATES = "duplicates"  # A folder beside those of the parts.


def prepare(
    *,
    inputs: Sequence[str],
    tokenizer_folder: str | pathlib.Path,
    output: str | pathlib.Path,
    settings: PrepareSettings,
    validation_inputs: Sequence[str] = (),
    overwrite: bool = False,
    runner: Runner | None = None,
    say: Callable[[str], None] = print,
) -> Manifest:
    """Writes the dataset folder `output`, or finds that it is there already.

    Args:
      inputs: files, folders, globs, `tfds:NAME/CONFIG:SPLIT`.
      tokenizer_folder: what `roberta-jax tokenizer` wrote; a copy goes into the dataset.
      output: a local folder.
      settings: how the rows are made.
      validation_inputs: text of the validation split; `settings.validation_fraction` must then be
        0.
      overwrite: make the dataset again, whatever inputs and settings the present one has.
      runner: who does the work, `LocalRunner` if not given; it never changes the rows.
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
    if validation_inputs and settings.validation_fraction:
        raise UserError(
            "There is a validation input and a validation_fraction of "
            f"{settings.validation_fraction}. Give one of them: the files of the validation split, "
            "or the share of the documents that it takes."
        )
    runner = runner or LocalRunner()
    output = local_path(output)
    tokenizer = load_tokenizer(tokenizer_folder)
    make_packer(  # Raises where the settings suit no tokenizer or no row.
        settings.format,
        settings.sequence_length,
        tokenizer,
        isolate_documents=settings.isolate_documents,
        short_sequence_probability=settings.short_sequence_probability,
    )
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
    keys = _keys(parts, planned)
    with kept_folder(output, _is_worth_keeping) as unfinished:
        finished = finished_parts(unfinished, parts, keys)
        names = {part_folder(unfinished, part).name for part in parts if part.number in finished}
        remove_all_but(unfinished, names | ({_DUPLICATES} if settings.drop_duplicates else set()))
        if finished:
            say(f"going on: {len(finished):,} of {count_of(len(parts), 'part')} are finished")
        else:
            say_size(parts, output, tokenizer, settings, say)
        try:
            duplicates = (
                _duplicates(unfinished.absolute() / _DUPLICATES, parts, settings, runner)
                if settings.drop_duplicates
                else None
            )
            work = WriteParts(
                folder=unfinished.absolute(),
                keys=keys,
                tokenizer=tokenizer,
                settings=settings,
                duplicates=duplicates,
            )
            if left := [part for part in parts if part.number not in finished]:
                runner(work, left, unfinished)
            results = _results(unfinished, parts, keys)
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
            if _is_worth_keeping(unfinished):
                say(
                    f"stopped: {kept:,} of {count_of(len(parts), 'part')} are finished"
                    f"{' (and some were searched for duplicates)' if not kept else ''} and stay in "
                    f"{unfinished}; the same command goes on from there"
                )
            raise
    summarize(manifest, output, say)
    return manifest


def _keys(parts: Sequence[Part], planned: Manifest) -> dict[int, str]:
    """What tells whether a finished part is the one that is wanted."""
    decides = {
        **planned.settings,
        "tokenizer": planned.tokenizer.fingerprint,
        "created_by": planned.created_by,
        "format_version": planned.format_version,
    }
    if planned.settings["drop_duplicates"]:  # By other parts' documents too.
        every = "".join(part.key(decides) for part in parts)
        decides["corpus"] = hashlib.sha256(every.encode()).hexdigest()
    return {part.number: part.key(decides) for part in parts}


def _duplicates(
    folder: pathlib.Path, parts: Sequence[Part], settings: PrepareSettings, runner: Runner
) -> pathlib.Path:
    """Where the duplicates of all parts are listed, below `folder`; done already, or now."""
    # Those of another corpus are of no use; most of the settings change nothing.
    decides = {
        "text_field": settings.text_field,
        "plain_text_documents": settings.plain_text_documents,
        "on_bad_text": settings.on_bad_text,
        "created_by": _created_by(),
    }
    every = "".join(part.key(decides) for part in parts)
    key = hashlib.sha256(every.encode()).hexdigest()[:16]
    hashes, lists = folder / f"hashes-{key}", folder / f"lists-{key}"
    if folder.is_dir():
        remove_all_but(folder, (hashes.name, lists.name))
    if not lists.is_dir():
        if left := [part for part in parts if not hash_folder(hashes, part).is_dir()]:
            runner(HashParts(hashes, settings), left, folder)
        find_duplicates(hashes, parts, lists)
    return lists


def _results(
    unfinished: pathlib.Path, parts: Sequence[Part], keys: Mapping[int, str]
) -> list[PartResult]:
    finished = finished_parts(unfinished, parts, keys)
    if missing := [part.number for part in parts if part.number not in finished]:
        raise MachineError(
            f"{len(missing):,} of {count_of(len(parts), 'part')} are not in {unfinished}, such as "
            f"{part_folder(unfinished, parts[missing[0]]).name}, though all were made. Do all "
            "workers see this folder, under this path?"
        )
    return [finished[part.number] for part in parts]


def _check(
    unfinished: pathlib.Path, settings: PrepareSettings, results: Sequence[PartResult]
) -> None:
    try:
        check_counts(settings, results)
    except UserError:
        remove_all_but(unfinished, ())  # Of no use where other text or settings are needed.
        raise


def _is_worth_keeping(folder: pathlib.Path) -> bool:
    """Whether there are finished parts, or hashes or duplicates of them."""
    work = (f"*/{RESULT_NAME}", f"{_DUPLICATES}/hashes-*/part-?????", f"{_DUPLICATES}/lists-*")
    return any(path for pattern in work for path in folder.glob(pattern))


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
        tokenizer_files={},
        dtype=dtype_of(tokenizer),
        splits={},
        settings=settings.deciding,
        inputs=[
            {**dataclasses.asdict(file), "split": split} for split in files for file in files[split]
        ],
        odd_text={},
        created_by=_created_by(),
    )


def _created_by() -> str:
    try:
        return f"roberta_jax {importlib.metadata.version('roberta-jax')}"
    except importlib.metadata.PackageNotFoundError:  # Run from a checkout that was never installed.
        return "roberta_jax unknown"


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
