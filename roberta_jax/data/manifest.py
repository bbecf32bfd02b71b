"""`manifest.json`: what a prepared dataset says about itself."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from roberta_jax.errors import UserError

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 2


@dataclasses.dataclass(slots=True, kw_only=True)
class Shard:
    """One file of rows."""

    name: str
    rows: int
    sha256: str
    bytes: int


@dataclasses.dataclass(slots=True, kw_only=True)
class Split:
    """Counts of one split.

    `tokens` are all but padding, special ones included. An example is one input of the model; a
    packed row has several. Of sentence pairs, `next_pairs` follow each other in a document, and
    `random_pairs` do not; tokens of text were left out (`truncated_tokens`), or stand in more than
    one example (`repeated_tokens`).

    `unigram_entropy_nats` is the entropy of its ordinary tokens: the loss of a guess that knows how
    often each token occurs, and ignores the context. A model has to get below it.
    """

    rows: int
    tokens: int
    padding_tokens: int
    documents: int
    sentences: int
    over_long_sentences: int
    examples: int
    next_pairs: int
    random_pairs: int
    truncated_tokens: int
    repeated_tokens: int
    unigram_entropy_nats: float
    shards: list[Shard]


@dataclasses.dataclass(slots=True, kw_only=True)
class TokenizerIdentity:
    """Which tokenizer made the ids."""

    kind: str
    vocab_size: int
    fingerprint: str


@dataclasses.dataclass(slots=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`."""

    format_version: int
    format: str  # One of `formats.FORMATS`.
    sequence_length: int  # Tokens per row.
    # What an example of a row attends to: "row" (all of it), or "example" (itself, where `<s>`
    # begins the next one).
    attention: str
    label_slots: int  # Next-sentence labels behind the tokens of a row; 0: none.
    tokenizer: TokenizerIdentity
    tokenizer_files: dict[str, str]  # sha256 of each file in `tokenizer/`, by name.
    dtype: str  # "uint16" or "uint32".
    splits: dict[str, Split]  # "train" and "validation".
    settings: dict[
        str, Any
    ]  # What `prepare` was told; the same settings and inputs give the same rows.
    inputs: list[dict[str, Any]]  # Of each file: path, bytes, modified_ns, split.
    # Lines or documents that were not UTF-8, "replaced" and "skipped"; how often the text spells a
    # special token, "special_names", which was encoded as text; documents left out as "duplicates".
    odd_text: dict[str, int]
    created_by: str

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that depend on the tokenizer and on every row, not on paths."""
        content = {
            "sequence_length": self.sequence_length,
            "attention": self.attention,
            "label_slots": self.label_slots,
            "dtype": self.dtype,
            "tokenizer": self.tokenizer.fingerprint,
            "shards": {
                name: [shard.sha256 for shard in split.shards]
                for name, split in self.splits.items()
            },
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, folder: pathlib.Path) -> None:
        """Writes `manifest.json` into `folder`."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: pathlib.Path) -> "Manifest":
        """Reads `manifest.json` of `folder`.

        Raises UserError when it is missing, damaged or of another version.
        """
        path = folder / MANIFEST_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"{folder} is no prepared dataset: {path} cannot be read ({error.strerror}). "
                "`roberta-jax prepare` writes such a folder; give its --output."
            ) from error
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}). Copy it again, or prepare the dataset again."
            ) from error
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format_version {version}, and this version of roberta_jax reads "
                f"{FORMAT_VERSION}. Prepare the dataset again, or use the version that wrote it."
            )
        try:
            values["tokenizer"] = TokenizerIdentity(**values["tokenizer"])
            values["splits"] = {
                name: Split(**{**split, "shards": [Shard(**shard) for shard in split["shards"]]})
                for name, split in values["splits"].items()
            }
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged ({error}). Copy it again, or prepare the dataset again."
            ) from error
