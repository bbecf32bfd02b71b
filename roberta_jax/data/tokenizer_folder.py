"""A corpus, or published files, → a tokenizer folder that later commands take."""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from roberta_jax.data import char_bpe, compression, json_tokenizer, sentencepiece_model
from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.byte_bpe import (
    LayoutError,
    import_byte_bpe,
    read_byte_bpe,
    train_byte_bpe,
)
from roberta_jax.data.corpus import read_documents
from roberta_jax.data.inputs import InputFile, find_files
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.data.progress import Progress
from roberta_jax.data.sentencepiece_model import read_sentencepiece
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError

# Kind → entries, unless another number is asked for: those of roberta-base, and the paper's 30K.
VOCAB_SIZES = {"byte_bpe": 50_265, "char_bpe": 30_000}
KINDS = tuple(VOCAB_SIZES)
_SAVE_AGAIN = (
    "Of any tokenizer that transformers opens, "
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes tokenizer.json, which is "
    "read here whatever its layout."
)
ORIGIN_NAME = "training.json"
# What is read of a large corpus beforehand, to judge how much text it has.
PROBED_FILES = 8  # Of each type.
PROBED_BYTES = 1 << 21  # Of each file, as stored.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """What decides the vocabulary, apart from the input files."""

    kind: str = "byte_bpe"
    vocab_size: int
    normalization: str | None = None  # char_bpe only, and there it must be given.
    sample_megabytes: int = 512  # Of text (10^6 characters); a larger corpus is sampled evenly.
    text_field: str = "text"
    on_bad_text: str = "error"

    def validate(self) -> None:
        """Raises UserError for a value that cannot be used.

        The trainer and the reader check the others.
        """
        if self.kind not in KINDS:
            raise UserError(f"kind is {self.kind!r}; it must be one of {', '.join(KINDS)}.")
        if (self.normalization is None) != (self.kind != "char_bpe"):
            raise UserError(
                f"normalization is {self.normalization}, and kind is {self.kind}; only char_bpe "
                f"has a normalization, one of {', '.join(char_bpe.NORMALIZATIONS)}."
            )
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
    set_values = dataclasses.asdict(settings).items()
    origin = {
        "settings": {name: value for name, value in set_values if value is not None},
        "inputs": [dataclasses.asdict(file) for file in files],
    }
    if _is_there(local_path(output), origin, overwrite, say):
        return load_tokenizer(output)
    counts = ReadCounts()
    with Progress("reading text", sum(file.bytes for file in files)) as progress:
        sample = _sample(files, settings, counts, progress)
        first = next(sample, None)
        if first is None:
            raise UserError(
                f"The input has no text: its lines are blank, or were skipped ({counts.skipped:,}) "
                "because they are not UTF-8."
            )
        tokenizer = _train(itertools.chain([first], sample), settings)
    if counts.replaced or counts.skipped:
        say(
            f"lines or JSON documents that are not UTF-8: {counts.replaced:,} replaced, "
            f"{counts.skipped:,} skipped"
        )
    _save(tokenizer, local_path(output), origin, say)
    return tokenizer


def _train(texts: Iterator[str], settings: TrainingSettings) -> Tokenizer:
    if settings.kind == "byte_bpe":
        return train_byte_bpe(texts, settings.vocab_size)
    assert settings.normalization is not None  # validate() has seen to it.
    return char_bpe.train_char_bpe(texts, settings.vocab_size, settings.normalization)


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
    return _save_imported(tokenizer, output, overwrite, say)


def import_sentencepiece_folder(
    *,
    model: str | pathlib.Path,
    output: str | pathlib.Path,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Tokenizer:
    """Writes the folder of a sentencepiece model, with the ids that `read_sentencepiece` tells.

    Raises as `train_tokenizer_folder` does.
    """
    return _save_imported(read_sentencepiece(model), output, overwrite, say)


def _save_imported(
    tokenizer: Tokenizer, output: str | pathlib.Path, overwrite: bool, say: Callable[[str], None]
) -> Tokenizer:
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
    if (folder / sentencepiece_model.FILE_NAME).exists():
        _check_layout_of_xlm_roberta(folder)
        return read_sentencepiece(folder / sentencepiece_model.FILE_NAME)
    raise UserError(
        f"{folder} has no tokenizer: a folder with vocab.json and merges.txt, with "
        f"{sentencepiece_model.FILE_NAME}, or with tokenizer.json. `roberta-jax tokenizer` writes "
        f"such a folder. {_SAVE_AGAIN}"
    )


def _values_of(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file that need not be there."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). Copy it again.") from error
    return values if isinstance(values, dict) else {}


def _check_nothing_is_added(folder: pathlib.Path) -> None:
    """Refuses what vocab.json and merges.txt do not say, and the ids depend on."""
    for name, key in (("added_tokens.json", ""), ("tokenizer_config.json", "add_prefix_space")):
        values = _values_of(folder / name)
        if values.get(key) if key else values:
            raise UserError(
                f"The tokenizer in {folder} is more than vocab.json and merges.txt: {name} has "
                f"{key or ', '.join(values)}. {_SAVE_AGAIN}"
            )


def _check_layout_of_xlm_roberta(folder: pathlib.Path) -> None:
    """Refuses the folders of CamemBERT, mBART and others, whose ids are arranged otherwise."""
    for name, key in (("config.json", "model_type"), ("tokenizer_config.json", "tokenizer_class")):
        said = _values_of(folder / name).get(key)
        if said and not str(said).lower().replace("-", "").startswith(("xlmroberta", "roberta")):
            raise UserError(
                f"{folder / name} has {key} {said}, whose ids are not XLM-RoBERTa's and cannot be "
                f"told from {sentencepiece_model.FILE_NAME} alone. {_SAVE_AGAIN}"
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
    """Text for training: all of a small corpus, else pieces spread evenly over a large one.

    The corpus is read once. Which share of a file to take follows from what is still missing and
    from how much text seems to be left, judged by the files of its type that have been read, so the
    sample comes out at the wanted size, and is the same whenever the files are.
    """
    limit = settings.sample_megabytes * 10**6
    is_small = sum(map(_most_characters, files)) <= limit
    rates = {} if is_small else _first_rates(files, settings)
    left = collections.Counter[Any]()
    for file in files:
        left[_type(file)] += file.bytes
    taken, owed, share = 0, 0.0, 1.0
    for file in files:
        if not is_small:
            text_left = sum(rates[kind].characters_in(left[kind]) for kind in left)
            share = min(1.0, max(limit - taken, 0) / max(text_left, 1))
        characters = 0
        for text in _texts(file, settings, counts):
            characters += len(text)
            owed += share * len(text)
            if owed > 0:
                owed -= len(text)
                taken += len(text)
                yield text
            progress.update(counts.stored_bytes, counts.text_bytes, f"{share:.0%} of it taken")
        left[_type(file)] -= file.bytes
        if not is_small:
            rates[_type(file)].add(characters, file.bytes)


@dataclasses.dataclass(slots=True)
class _Rate:
    """How many characters of text the files of one type have per stored byte."""

    characters: int = 0
    stored_bytes: int = 0

    def add(self, characters: int, stored_bytes: int) -> None:
        self.characters += characters
        self.stored_bytes += stored_bytes

    def characters_in(self, stored_bytes: int) -> float:
        return self.characters / max(self.stored_bytes, 1) * stored_bytes


def _first_rates(files: Sequence[InputFile], settings: TrainingSettings) -> dict[Any, _Rate]:
    """The rates at the beginning of a few files of each type, evenly chosen."""
    rates: dict[Any, _Rate] = {}
    for kind in dict.fromkeys(map(_type, files)):
        same = [file for file in files if _type(file) == kind]
        rates[kind] = _Rate()
        number = min(len(same), PROBED_FILES)
        for file in (same[i * len(same) // number] for i in range(number)):
            rates[kind].add(*_probe(file, settings))
    return rates


def _probe(file: InputFile, settings: TrainingSettings) -> tuple[int, int]:
    """(characters, stored bytes) of about the first `PROBED_BYTES` of a file, or of all of it."""
    counts = ReadCounts()
    characters = position = before = before_characters = 0
    for text in _texts(file, settings, counts):
        if counts.stored_bytes != position:
            # Files are read in blocks: only now all text of the block before has been seen.
            before, before_characters, position = position, characters, counts.stored_bytes
            if before >= PROBED_BYTES:
                return before_characters, before
        characters += len(text)
    return characters, file.bytes


def _texts(file: InputFile, settings: TrainingSettings, counts: ReadCounts) -> Iterator[str]:
    documents = read_documents(
        [file], text_field=settings.text_field, on_bad_text=settings.on_bad_text, counts=counts
    )
    return ("\n".join(document.sentences) for document in documents)


def _type(file: InputFile) -> tuple[bool, bool, bool]:
    return file.is_json_lines, file.is_parquet, file.is_compressed


def _most_characters(file: InputFile) -> float:
    is_packed = file.is_parquet or file.is_compressed
    return file.bytes / compression.SMALLEST_SHARE if is_packed else file.bytes
