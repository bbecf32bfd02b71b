"""A part of a corpus → its shards: read, tokenise, pack, write, all in one streaming pass.

Memory holds a few megabytes of text and rows at a time, whatever the size of the part.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.corpus import Document, read_documents
from roberta_jax.data.encoding import encode_documents
from roberta_jax.data.formats import make_packer
from roberta_jax.data.manifest import Shard
from roberta_jax.data.parts import Part
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import ShardWriter
from roberta_jax.data.rows import RowCounts, without_empty_sentences
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.validation_split import TRAIN, VALIDATION, split_documents

# Rows are written when so many tokens have come together.
UNWRITTEN_TOKENS = 1 << 20
RESULT_NAME = "result.json"
FREQUENCIES_NAME = "frequencies.npy"  # [V] int64, of the training rows.
_IDS_NAME, _LENGTHS_NAME, _IDS_TYPE = "validation-ids", "validation-lengths.npy", "<u4"

# Takes what was read so far, and the tokens that came of it; may raise to stop the work.
Report = Callable[[ReadCounts, int, int], None]


@dataclasses.dataclass(slots=True, kw_only=True)
class PartResult:
    """What became of a part; its folder holds the shards and the ids of validation documents.

    Attributes:
      key: of the part and the settings.
      counts: of the training rows.
      shards: of the training rows; names relative to the folder.
      read: what the reader met.
      sizes: of all files in the folder, in bytes, by name.
    """

    key: str
    counts: RowCounts
    shards: list[Shard]
    read: ReadCounts
    sizes: dict[str, int]

    def save(self, folder: pathlib.Path) -> None:
        """Writes `result.json`, which says that the folder is complete."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (folder / RESULT_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: pathlib.Path, key: str) -> "PartResult | None":
        """What is in a folder, or None when it is not whole or was made from something else."""
        try:
            values = json.loads((folder / RESULT_NAME).read_text(encoding="utf-8"))
            result = cls(
                key=values["key"],
                counts=RowCounts(**values["counts"]),
                shards=[Shard(**shard) for shard in values["shards"]],
                read=ReadCounts(**values["read"]),
                sizes=values["sizes"],
            )
            whole = all(
                (folder / name).stat().st_size == size for name, size in result.sizes.items()
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return result if result.key == key and whole else None


class RowWriter:
    """Documents of one split → rows → shards, and how often every token occurs in them."""

    def __init__(
        self,
        folder: pathlib.Path,
        split: str,
        *,
        tokenizer: Tokenizer,
        settings: PrepareSettings,
        key: Sequence[int],
    ):
        """Writes into `folder`; `key` seeds the random choices of the pair formats."""
        self._sequence_length = settings.sequence_length
        self._vocab_size = tokenizer.vocab_size
        self._packer = make_packer(
            settings.format,
            settings.sequence_length,
            tokenizer,
            isolate_documents=settings.isolate_documents,
            short_sequence_probability=settings.short_sequence_probability,
            key=key,
        )
        self._writer = ShardWriter(
            folder, split, dtype=dtype_of(tokenizer), rows_per_shard=settings.rows_per_shard
        )
        self._unwritten = 0
        self.counts = self._packer.counts
        self.label_slots = self._packer.label_slots
        self.frequencies = np.zeros(tokenizer.vocab_size, np.int64)  # [V]

    def add(self, ids: np.ndarray, *, starts_document: bool) -> None:
        """Takes a document, or a piece of one, as `Packer.add` does."""
        self._packer.add(ids, starts_document=starts_document)
        self._unwritten += len(ids)
        if self._unwritten > UNWRITTEN_TOKENS:
            self._unwritten = 0
            self._write_finished_rows()

    def close(self) -> list[Shard]:
        """Finishes rows and shards."""
        self._packer.finish()
        self._write_finished_rows()
        return self._writer.close()

    def _write_finished_rows(self) -> None:
        rows = self._packer.take_rows()
        tokens = rows[:, : self._sequence_length]
        # An id outside the embedding table would silently become garbage on an accelerator.
        assert tokens.size == 0 or 0 <= tokens.min() <= tokens.max() < self._vocab_size, (
            "token id outside the vocabulary"
        )
        self.frequencies += np.bincount(tokens.ravel(), minlength=self._vocab_size)
        self._writer.write(rows)


def write_part(
    part: Part,
    folder: pathlib.Path,
    *,
    key: str,
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    report: Report,
    duplicates: np.ndarray | None = None,
    num_processes: int = 0,
) -> None:
    """Writes the shards of a part into the empty folder `folder`.

    Validation documents are few and lie far apart: their ids are kept, and the rows are made of
    those of all parts (`validation_documents`), so that pairs find another document.

    Args:
      part: what is read.
      folder: for all that the part becomes.
      key: of the part and the settings.
      tokenizer: makes the ids.
      settings: how the rows are made.
      report: is called now and then.
      duplicates: numbers of documents to leave out, sorted; int64 [n].
      num_processes: that encode beside this one; changes the speed only.

    Raises:
      UserError: the text cannot be read.
      MachineError: the disk refuses the shards.
    """
    rows = RowWriter(
        folder, TRAIN, tokenizer=tokenizer, settings=settings, key=(settings.seed, part.number)
    )
    read = ReadCounts()
    found = documents_of(part, settings, read)
    if duplicates is not None:
        found = without_duplicates(found, duplicates, read)
    tokens = documents = 0
    lengths: list[tuple[int, bool]] = []
    with (folder / _IDS_NAME).open("wb") as kept:
        for split, is_start, ids in encode_documents(
            tokenizer,
            _labelled(found, part, settings, SpecialNames(tokenizer, read)),
            num_processes=num_processes,
            # In pairs, no separator stands between the sentences of a text.
            blank_between=settings.has_pairs,
        ):
            ids = without_empty_sentences(ids, tokenizer.eos_id)
            if split == TRAIN:
                rows.add(ids, starts_document=is_start)
            else:
                kept.write(ids.astype(_IDS_TYPE).tobytes())
                lengths.append((len(ids), is_start))
            documents += is_start
            tokens += len(ids)
            report(read, documents, tokens)
    np.save(folder / _LENGTHS_NAME, np.array(lengths, np.int64).reshape(-1, 2))
    shards = rows.close()
    np.save(folder / FREQUENCIES_NAME, rows.frequencies)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    result = PartResult(key=key, counts=rows.counts, shards=shards, read=read, sizes=sizes)
    result.save(folder)
    report(read, documents, tokens)


def validation_documents(folder: pathlib.Path) -> Iterator[tuple[bool, np.ndarray]]:
    """The validation documents of a finished part: whether one begins, and ids uint32 [n]."""
    with (folder / _IDS_NAME).open("rb") as kept:
        for length, is_start in np.load(folder / _LENGTHS_NAME).tolist():
            data = kept.read(length * np.dtype(_IDS_TYPE).itemsize)
            yield bool(is_start), np.frombuffer(data, _IDS_TYPE)


def dtype_of(tokenizer: Tokenizer) -> str:
    """The smallest type of ids on disk: "uint16" or "uint32"."""
    return "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"


class SpecialNames:
    """Counts where a text spells a special token, which is encoded as text like any other."""

    def __init__(self, tokenizer: Tokenizer, counts: ReadCounts):
        """`counts` is kept up to date."""
        pieces = tokenizer.pieces()
        names = sorted((pieces[i].decode() for i in tokenizer.special_ids), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names)))
        # All of RoBERTa's begin alike, and so do BERT's: most texts need no closer look.
        self._beginnings = sorted({name[0] for name in names})
        self._counts = counts

    def look(self, document: Document) -> None:
        """Counts those of a document."""
        for sentence in document.sentences:
            if any(character in sentence for character in self._beginnings):
                self._counts.special_names += len(self._pattern.findall(sentence))


def documents_of(
    part: Part, settings: PrepareSettings, counts: ReadCounts | None = None
) -> Iterator[Document]:
    """The documents of a part as the settings have them; `counts` is kept up to date."""
    return read_documents(
        part.spans,
        text_field=settings.text_field,
        sentence_splitter=settings.sentence_splitter,
        language=settings.language,
        plain_text_documents=settings.plain_text_documents,
        on_bad_text=settings.on_bad_text,
        counts=counts,
    )


def without_duplicates(
    documents: Iterator[Document], duplicates: np.ndarray, counts: ReadCounts
) -> Iterator[Document]:
    """The documents of a part but for those whose numbers are in `duplicates`, which are counted.

    The pieces of a document share its fate.
    """
    number, place, is_left_out = -1, 0, False
    for document in documents:
        if document.is_start:
            number += 1
            is_left_out = place < len(duplicates) and int(duplicates[place]) == number
            place += is_left_out
            counts.duplicates += is_left_out
        if not is_left_out:
            yield document


def _labelled(
    documents: Iterator[Document], part: Part, settings: PrepareSettings, names: SpecialNames
) -> Iterator[tuple[str, Document]]:
    """Every document of the part, or piece of one, with its split."""
    labelled: Iterator[tuple[str, Any]] = (
        split_documents(documents, settings.validation_fraction, part.number)
        if part.split == TRAIN
        else ((VALIDATION, document) for document in documents)
    )
    for split, document in labelled:
        names.look(document)
        yield split, document
