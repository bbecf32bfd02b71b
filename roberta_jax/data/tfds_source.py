"""Texts from the datasets of tensorflow-datasets, by record number and without TensorFlow.

Only what was prepared as ArrayRecord is read: `NAME/CONFIG` in TFDS's data folder
(~/tensorflow_datasets, or the one that TFDS_DATA_DIR names), or the folder of a dataset.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from roberta_jax.data.bad_text import BadTextRule
from roberta_jax.errors import UserError

PREFIX = "tfds:"
BATCH_RECORDS = 256  # Read at once.
# A split may be a slice with colons of its own, and a sum: train[:10%]+validation.
_SLICE = r"[\w.-]+(?:\[[^\[\]]*\])?"
_NAME = re.compile(rf"{PREFIX}(?P<dataset>.+):(?P<split>{_SLICE}(?:\+{_SLICE})*)")


def is_tfds(name: str) -> bool:
    """Whether an input is `tfds:NAME/CONFIG:SPLIT`."""
    return name.startswith(PREFIX)


def splits_of(name: str) -> list[str]:
    """The splits of `tfds:NAME/CONFIG`; UserError when the dataset is not there."""
    import tensorflow_datasets as tfds  # Slow to import, and needed for such inputs only.

    return list(_builder(tfds, name.removeprefix(PREFIX)).info.splits)


class TfdsSplit:
    """A split, or slice of one, that is on disk.

    Attributes:
      num_records: how many there are.
      bytes: about their size, uncompressed.
      modified_ns: when a file of it was last written.
      extents: which records [begin, end) of which files it has.
    """

    def __init__(self, name: str):
        """Opens `tfds:NAME/CONFIG:SPLIT`, or `tfds:FOLDER:SPLIT`.

        Raises UserError when the dataset or the split is not there, or not as ArrayRecord.
        """
        import tensorflow_datasets as tfds  # Slow to import, and needed for such inputs only.

        match = _NAME.fullmatch(name)
        if not match:
            raise UserError(
                f"The input {name} must be tfds:NAME/CONFIG:SPLIT, such as "
                "tfds:wikipedia/20230601.en:train, or a folder in place of NAME/CONFIG."
            )
        self.name, dataset, split = name, match["dataset"], match["split"]
        builder = _builder(tfds, dataset)
        splits = builder.info.splits
        try:
            instructions = splits[split].file_instructions
            self._source = builder.as_data_source(split)
            path = type(builder.data_path)
            stats = {part.filename: path(part.filename).stat() for part in instructions}
        except OSError as error:
            raise UserError(
                f"The TFDS dataset {dataset} is not whole: {error.filename} cannot be read "
                f"({error.strerror or error}). {_how_to_prepare(dataset)}"
            ) from error
        except NotImplementedError as error:
            raise UserError(
                f"The TFDS dataset {dataset} is stored as {builder.info.file_format.value}, which "
                f"needs TensorFlow. {_how_to_prepare(dataset)}"
            ) from error
        except (KeyError, ValueError, AssertionError) as error:
            raise UserError(
                f"The TFDS dataset {dataset} has no split {split!r} with records; it has "
                f"{', '.join(splits)}, and slices of them such as train[:10%] "
                f"({str(error).rstrip('.')})."
            ) from error
        self.features = builder.info.features
        self.num_records = len(self._source)
        self.extents = [
            (str(part.filename), part.skip, part.skip + part.take) for part in instructions
        ]
        # What is stored may have been written without its size being noted.
        size = sum(s.num_bytes for s in splits.values()) or sum(s.length for s in stats.values())
        records = sum(s.num_examples for s in splits.values())
        self.bytes = max(-(-size * self.num_records // max(records, 1)), self.num_records)
        self.modified_ns = int(max(stat.mtime for stat in stats.values()) * 10**9)

    def records(self, begin: int, end: int) -> Iterator[dict[str, Any]]:
        """The records [begin, end); raises UserError that names a damaged one."""
        for first in range(begin, end, BATCH_RECORDS):
            numbers = range(first, min(first + BATCH_RECORDS, end))
            try:
                yield from self._source.__getitems__(list(numbers))
            except RuntimeError:
                # Of the records that are read at once, those before the damaged one are whole.
                for number in numbers:
                    yield self._record(number)

    def _record(self, number: int) -> dict[str, Any]:
        try:
            record: dict[str, Any] = self._source[number]
            return record
        except RuntimeError as error:
            raise UserError(
                f"The input {self.name} is damaged or cut off at record {number:,}: {error}. "
                "Prepare the TFDS dataset again, or copy it from where it is intact."
            ) from error


class TfdsReader:
    """Reads one feature of the records in a share of a split."""

    def __init__(self, name: str, begin: int, end: int, *, feature: str, rule: BadTextRule):
        """Opens the split.

        Args:
          name: of the input, `tfds:NAME/CONFIG:SPLIT`.
          begin: where the share begins, in [0, bytes of the split].
          end: where it ends.
          feature: that holds the text.
          rule: for text that is not UTF-8.

        Raises UserError when there is no such split, or no such feature of texts.
        """
        import tensorflow_datasets as tfds

        self._split, self._feature, self._rule = TfdsSplit(name), feature, rule
        self._begin, self._end = begin, end
        self.stored_bytes_read = self.text_bytes_read = 0
        features = self._split.features
        if feature not in features:
            raise UserError(
                f"{name} has no feature {feature!r}; it has {', '.join(sorted(features))}. "
                "--text_field names the one with the text."
            )
        if not isinstance(features[feature], tfds.features.Text):
            raise UserError(f"{name}: the feature {feature!r} holds no text: {features[feature]}.")

    def texts(self) -> Iterator[tuple[str, str]]:
        """Place (input and record, from 0 as in TFDS) and text of every record."""
        split = self._split
        # A record belongs to the share that its first byte is in, were all of one size.
        first, last = (
            -(-place * split.num_records // max(split.bytes, 1))
            for place in (self._begin, self._end)
        )
        for number, record in enumerate(split.records(first, last), start=first):
            value = record[self._feature]
            self.text_bytes_read += len(value)
            self.stored_bytes_read = (number - first) * split.bytes // split.num_records
            text = self._rule.decode(value, number, "record")
            if text is not None:
                yield f"{split.name}, record {number}", text
        self.stored_bytes_read = self._end - self._begin


def _builder(tfds: Any, dataset: str) -> Any:
    """The builder of what is on disk, which needs neither the dataset's code nor a network."""
    if dataset.startswith(("/", ".", "~")) or "://" in dataset or os.path.isdir(dataset):
        folder = dataset if "://" in dataset else os.path.expanduser(dataset)
        try:
            return tfds.builder_from_directory(folder)
        except (OSError, ValueError, tfds.core.dataset_info.DatasetInfoFileError) as error:
            raise UserError(
                f"{folder} is no TFDS dataset: its dataset_info.json or features.json cannot be "
                f"read ({error}). Give the folder of a version, such as "
                "DATA_DIR/NAME/CONFIG/1.0.0."
            ) from error
    try:  # TFDS's usual way by name first imports the dataset's code.
        return tfds.core.read_only_builder.builder_from_files(dataset)
    except tfds.core.registered.DatasetNotFoundError as error:
        places = ", ".join(map(str, tfds.core.utils.file_utils.list_data_dirs()))
        raise UserError(
            f"The TFDS dataset {dataset} is not in {places}, or not whole (TFDS_DATA_DIR names "
            f"another place). {_how_to_prepare(dataset)}"
        ) from error
    except (OSError, ValueError, tfds.core.dataset_info.DatasetInfoFileError) as error:
        raise UserError(
            f"The TFDS dataset {dataset} cannot be opened ({error}). {_how_to_prepare(dataset)}"
        ) from error


def _how_to_prepare(dataset: str) -> str:
    return (
        "Prepare it once: python -c 'import tensorflow_datasets as tfds, tensorflow_datasets.text; "
        f'tfds.builder("{dataset}", file_format="array_record").download_and_prepare()\'. '
        "Some datasets need the extra beam or tensorflow of roberta_jax for it."
    )
