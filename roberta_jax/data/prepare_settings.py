"""What decides the rows of a prepared dataset, apart from the input files and the tokenizer."""

import dataclasses
from typing import Any

from roberta_jax.data.formats import FORMATS
from roberta_jax.data.validation_split import systematic_sample
from roberta_jax.errors import UserError

DEFAULT_VALIDATION_FRACTION = 0.01


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSettings:
    """The settings that `prepare` records; the same ones and the same inputs give the same rows."""

    format: str = "full_sentences"
    sequence_length: int = 512  # Tokens per row.
    # With full_sentences: attention and positions stay inside a document.
    isolate_documents: bool = False
    # With segment_pair: documents whose pairs are cut short, as BERT does; a share in [0, 1].
    short_sequence_probability: float = 0.1
    seed: int = 0  # Of the random choices of the pair formats.
    # Of the documents; 0 with a validation input.
    validation_fraction: float = DEFAULT_VALIDATION_FRACTION
    text_field: str = "text"
    plain_text_documents: str = "blank_line"
    sentence_splitter: str = "line"
    language: str = "en"  # Whose rules the sentence splitter "rules" follows.
    on_bad_text: str = "error"
    drop_duplicates: bool = False  # Of documents that occur more than once, only the first stays.
    rows_per_shard: int = 1 << 20

    def validate(self) -> None:
        """Raises UserError for a value that cannot be used; readers and packers check the rest."""
        if self.format not in FORMATS:
            raise UserError(f"format is {self.format!r}; it must be one of {', '.join(FORMATS)}.")
        systematic_sample(self.validation_fraction)
        if self.rows_per_shard < 1:
            raise UserError(f"rows_per_shard is {self.rows_per_shard}; it must be at least 1.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; it must be in [0, 2^32).")

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings by name, but for those that change nothing beside the others."""
        values = dataclasses.asdict(self)
        if not self.has_pairs:
            del values["seed"]
        if self.format != "segment_pair":
            del values["short_sequence_probability"]
        if self.format != "full_sentences":
            del values["isolate_documents"]
        if self.sentence_splitter != "rules":
            del values["language"]
        return values

    @property
    def has_pairs(self) -> bool:
        """Whether an example is a pair with a next-sentence label."""
        return self.format in ("segment_pair", "sentence_pair")

    @property
    def attention(self) -> str:
        """What an example attends to: the "row", or the "example" where rows hold several."""
        whole = self.format == "full_sentences" and not self.isolate_documents
        return "row" if whole else "example"
