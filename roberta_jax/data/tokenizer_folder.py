"""A corpus, or published files, → a tokenizer folder that later commands take."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from roberta_jax.data import json_tokenizer
from roberta_jax.data.byte_bpe import (
    LayoutError,
    import_byte_bpe,
    read_byte_bpe,
    train_byte_bpe,
)
from roberta_jax.data.corpus import ReadCounts, read_documents
from roberta_jax.data.inputs import InputFile, find_files
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.data.progress import Progress
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError

KINDS = ("byte_bpe",)
_SAVE_AGAIN = (
    "Of any tokenizer that transformers opens, "
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes tokenizer.json, which is "
    "read here whatever its layout."
)
ORIGIN_NAME = "training.json"
# Compressed text is rarely smaller than this share of itself; below it, the corpus need not be
# measured.
SMALLEST_COMPRESSED_SHARE = 1 / 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """What decides the vocabulary, apart from the input files."""

    kind: str = "byte_bpe"
    vocab_size: int
    sample_megabytes: int = 512  # Of text (10^6 characters); a larger corpus is sampled evenly.
    text_field: str = "text"
    on_bad_text: str = "error"

    def validate(self) -> None:
        """Raises UserError for a value that cannot be used.

        The trainer and the reader check the others.
        """
        if self.kind not in KINDS:
            raise UserError(f"kind is {self.kind!r}; it must be one of {', '.join(KINDS)}.")
        if self.sample_megabytes < 1:
            raise UserError(f"sample_megabytes is {self.sample_megabytes}; it must be at least 1.")


def train_tokenizer_folder(
    *,
    inputs: Sequence[str],
    output: str | pathlib.Path,
    settings: TrainingSettings,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Tokenizer:
    """Trains a tokenizer and writes its folder, or finds that it is there already.

    Args:
      inputs: files, folders, globs, as `prepare` reads them.
      output: a local folder.
      settings: how it is trained.
      overwrite: make the tokenizer again, whatever the present one was made from.
      say: takes the summary, line by line.

    Raises:
      UserError: something given cannot be used; nothing is left behind.
      MachineError: the disk is full or the output cannot be written; nothing is left behind.
    """
    settings.validate()
    files = find_files(inputs)
    origin = {
        "settings": dataclasses.asdict(settings),
        "inputs": [dataclasses.asdict(file) for file in files],
    }
    if _is_there(local_path(output), origin, overwrite, say):
        return load_tokenizer(output)
    counts = ReadCounts()
    with Progress("reading text", _total_bytes(files)) as progress:
        sample = _sample(files, settings, counts, progress)
        first = next(sample, None)
        if first is None:
            raise UserError(
                f"The input has no text: its lines are blank, or were skipped ({counts.skipped:,}) "
                "because they are not UTF-8."
            )
        tokenizer = train_byte_bpe(itertools.chain([first], sample), settings.vocab_size)
    if counts.replaced or counts.skipped:
        say(
            f"lines or JSON documents that are not UTF-8: {counts.replaced:,} replaced, "
            f"{counts.skipped:,} skipped"
        )
    _save(tokenizer, local_path(output), origin, say)
    return tokenizer


def import_tokenizer_folder(
    *,
    vocab_json: str | pathlib.Path,
    merges_txt: str | pathlib.Path,
    output: str | pathlib.Path,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Tokenizer:
    """Writes the folder of a vocabulary in the layout of roberta-base.

    Raises as `train_tokenizer_folder` does.
    """
    tokenizer = import_byte_bpe(vocab_json, merges_txt)
    if unreachable := tokenizer.count_unreachable():
        say(
            f"warning: {unreachable:,} of the {tokenizer.vocab_size:,} entries are made by no rule "
            f"of {merges_txt} and never occur. Is the file cut off, or of another vocabulary?"
        )
    origin = {"settings": {"kind": tokenizer.kind, "imported": tokenizer.fingerprint}, "inputs": []}
    if not _is_there(local_path(output), origin, overwrite, say):
        _save(tokenizer, local_path(output), origin, say)
    return tokenizer


def load_tokenizer(folder: str | pathlib.Path) -> Tokenizer:
    """Reads a tokenizer folder, ours or one that transformers wrote.

    Raises:
      UserError: there is none, or it is damaged or of a kind that is not supported.
    """
    folder = pathlib.Path(folder)
    if (folder / json_tokenizer.FILE_NAME).exists():  # The whole description, added tokens too.
        return read_byte_bpe(folder / json_tokenizer.FILE_NAME) or (
            json_tokenizer.read_json_tokenizer(folder)
        )
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        _check_nothing_is_added(folder)
        try:
            return import_byte_bpe(folder / "vocab.json", folder / "merges.txt")
        except LayoutError as error:
            raise UserError(f"{folder}: {error} {_SAVE_AGAIN}") from error
    raise UserError(
        f"{folder} has no tokenizer: a folder with vocab.json and merges.txt, or with "
        f"tokenizer.json. `roberta-jax tokenizer` writes such a folder. {_SAVE_AGAIN}"
    )


def _check_nothing_is_added(folder: pathlib.Path) -> None:
    """Refuses what vocab.json and merges.txt do not say, and the ids depend on."""
    for name, key in (("added_tokens.json", ""), ("tokenizer_config.json", "add_prefix_space")):
        try:
            values = json.loads((folder / name).read_text(encoding="utf-8"))
        except OSError:
            continue
        except ValueError as error:
            raise UserError(f"{folder / name} is damaged ({error}). Copy it again.") from error
        if isinstance(values, dict) and (values.get(key) if key else values):
            raise UserError(
                f"The tokenizer in {folder} is more than vocab.json and merges.txt: {name} has "
                f"{key or ', '.join(values)}. {_SAVE_AGAIN}"
            )


def _is_there(
    output: pathlib.Path, origin: dict[str, Any], overwrite: bool, say: Callable[[str], None]
) -> bool:
    if not output.exists():
        return False
    if not (output / ORIGIN_NAME).is_file():
        raise UserError(
            f"The output {output} exists, and `roberta-jax tokenizer` did not write it. Choose "
            "another --output."
        )
    if overwrite:
        return False
    try:
        there = json.loads((output / ORIGIN_NAME).read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if there != origin:
        raise UserError(
            f"The output {output} exists and was made from other inputs or with other settings. "
            "Choose another --output, or --overwrite to replace it."
        )
    say(f"{output} has the same inputs and settings; there is nothing to do.")
    return True


def _save(
    tokenizer: Tokenizer, output: pathlib.Path, origin: dict[str, Any], say: Callable[[str], None]
) -> None:
    with new_folder(output) as partial:
        tokenizer.save(partial)
        (partial / ORIGIN_NAME).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    say(
        f"{tokenizer.vocab_size:,} entries, fingerprint {tokenizer.fingerprint}, written to "
        f"{output}"
    )


def _sample(
    files: Sequence[InputFile], settings: TrainingSettings, counts: ReadCounts, progress: Progress
) -> Iterator[str]:
    """Text for training: all of a small corpus, else pieces spread evenly over a large one."""
    limit = settings.sample_megabytes * 10**6
    share = 1.0
    if _most_characters(files) > limit:
        # The share must be known before the first piece is taken, so a large corpus is read twice.
        share = min(1.0, limit / max(sum(map(len, _texts(files, settings, ReadCounts()))), 1))
    owed = 0.0
    for text in _texts(files, settings, counts):
        owed += share * len(text)
        if owed > 0:
            owed -= len(text)
            yield text
        progress.update(counts.stored_bytes, counts.text_bytes, f"{share:.0%} of it taken")


def _texts(
    files: Sequence[InputFile], settings: TrainingSettings, counts: ReadCounts
) -> Iterator[str]:
    documents = read_documents(
        files, text_field=settings.text_field, on_bad_text=settings.on_bad_text, counts=counts
    )
    return ("\n".join(document.sentences) for document in documents)


def _most_characters(files: Sequence[InputFile]) -> float:
    return sum(
        file.bytes / (SMALLEST_COMPRESSED_SHARE if file.path.endswith(".gz") else 1)
        for file in files
    )


def _total_bytes(files: Sequence[InputFile]) -> int:
    return sum(file.bytes for file in files)
