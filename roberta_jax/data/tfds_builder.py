"""A corpus of any readable kind as an ordinary dataset of tensorflow-datasets.

    from roberta_jax.data.tfds_builder import RobertaJaxText, TextConfig

    config = TextConfig(name="books", inputs=("books/*.jsonl.gz",))
    RobertaJaxText(config=config, data_dir="tfds").download_and_prepare()

writes versioned splits of ArrayRecord files, which tfds.data_source("roberta_jax_text/books",
split="train[:10%]", data_dir="tfds") opens, with or without this module and never with TensorFlow,
and which `--input=tfds:roberta_jax_text/books:train` reads.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from roberta_jax.data.corpus import read_documents
from roberta_jax.data.inputs import find_files
from roberta_jax.data.validation_split import (
    TRAIN,
    VALIDATION,
    split_documents,
    systematic_sample,
)
from roberta_jax.errors import UserError


@dataclasses.dataclass(eq=False)
class TextConfig(tfds.core.BuilderConfig):
    """Which corpus, under a `name` of the user's choice.

    Attributes:
      inputs: files, folders, globs, as `prepare` takes them.
      validation_inputs: text of the validation split.
      validation_fraction: share of the documents of `inputs` for validation, in [0, 0.5], else.
      text_field: as in `read_documents`; likewise `plain_text_documents` and `on_bad_text`.
    """

    inputs: tuple[str, ...] = ()
    validation_inputs: tuple[str, ...] = ()
    validation_fraction: float = 0.0
    text_field: str = "text"
    plain_text_documents: str = "blank_line"
    on_bad_text: str = "error"


class RobertaJaxText(tfds.core.GeneratorBasedBuilder):
    """`roberta_jax_text`: one record per document, in the order of the corpus.

    A record has the `text` (lines without white space at their ends, joined by line breaks) and its
    `source` (file and line).
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, file_format: Any = "array_record", **kwargs: Any):
        """As every builder of TFDS; `config` is a `TextConfig`."""
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Documents of raw text, to pretrain an encoder on.",
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "source": tfds.features.Text()}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, download_manager: Any) -> dict[str, Any]:
        del download_manager  # Nothing is downloaded.
        config = self.builder_config
        if not isinstance(config, TextConfig):
            raise UserError(
                "The builder roberta_jax_text needs a config: a TextConfig with inputs."
            )
        systematic_sample(config.validation_fraction)  # Raises for what is no share.
        if config.validation_inputs and config.validation_fraction:
            raise UserError("Give validation_inputs or a validation_fraction, not both.")
        splits = {TRAIN: self._generate_examples(config.inputs, TRAIN)}
        if config.validation_inputs:
            splits[VALIDATION] = self._generate_examples(config.validation_inputs, TRAIN)
        elif config.validation_fraction:
            splits[VALIDATION] = self._generate_examples(config.inputs, VALIDATION)
        return splits

    def _generate_examples(
        self, inputs: tuple[str, ...], wanted: str
    ) -> Iterator[tuple[int, dict[str, str]]]:
        config: TextConfig = self.builder_config
        documents = read_documents(
            find_files(inputs),
            text_field=config.text_field,
            plain_text_documents=config.plain_text_documents,
            on_bad_text=config.on_bad_text,
        )
        fraction = 0.0 if config.validation_inputs else config.validation_fraction
        number = 0
        lines: list[str] = []
        source = ""
        for split, document in split_documents(documents, fraction):
            if split != wanted:
                continue
            if document.is_start and lines:
                yield number, {"text": "\n".join(lines), "source": source}
                number, lines = number + 1, []
            if document.is_start:
                source = document.source
            lines += document.sentences
        if lines:
            yield number, {"text": "\n".join(lines), "source": source}
