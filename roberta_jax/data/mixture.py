"""Several prepared datasets as one: their rows are numbered through, and drawn by weight."""

import hashlib
import itertools
import json
import math
import pathlib

import numpy as np

from roberta_jax.data.manifest import Manifest
from roberta_jax.data.records import RecordDataset, open_dataset
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError


class MixedDataset:
    """The rows of one split of several datasets, one after the other.

    Attributes:
      datasets: which; all have rows.
      split: "train" or "validation".
      manifest: of the first; what a model needs to know is the same in all.
      sequence_length: tokens per row.
      fingerprint: 16 hexadecimal digits that depend on every row.
    """

    def __init__(self, datasets: list[RecordDataset]):
        """Raises UserError when the datasets do not go together."""
        first, *others = datasets
        for other in others:
            _check_alike(first, other)
        self.datasets = datasets
        self.split, self.manifest = first.split, first.manifest
        self.sequence_length = first.sequence_length
        content = json.dumps([dataset.fingerprint for dataset in datasets])
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
        self._first_rows = np.array([0, *itertools.accumulate(map(len, datasets))])

    @property
    def folder(self) -> str:
        """The folders, for messages."""
        return ", ".join(str(dataset.folder) for dataset in self.datasets)

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows with the numbers `indices` [n], as `RecordDataset.read`: [n, T]."""
        return self.read_labelled(indices)[0]

    def read_labelled(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `RecordDataset.read_labelled`: [n, T] and [n, label_slots]."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(
                f"row numbers must be in [0, {len(self)}), got {indices.min()} to {indices.max()}"
            )
        rows = np.empty((len(indices), self.sequence_length), self.manifest.dtype)
        labels = np.empty((len(indices), self.manifest.label_slots), self.manifest.dtype)
        numbers = np.searchsorted(self._first_rows, indices, side="right") - 1
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            local = indices[places] - self._first_rows[number]
            rows[places], labels[places] = self.datasets[number].read_labelled(local)
        return rows, labels

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that all rows were made with."""
        return self.datasets[0].tokenizer()


RowSource = RecordDataset | MixedDataset


def open_rows(path: str, split: str) -> RowSource:
    """Opens a split of the dataset `path`, or of several whose folders have commas between them.

    Of several, those without rows in this split are left out, if any has some.

    Raises UserError when one is missing, damaged or incomplete, or they do not go together.
    """
    folders = folders_of(path)
    if len(set(folders)) < len(folders) or not all(folders):
        raise UserError(
            f"config.data.path is {path!r}; it must be the folder of a dataset, or several "
            "different ones with commas between them."
        )
    datasets = [open_dataset(folder, split) for folder in folders]
    if len(datasets) == 1:
        return datasets[0]
    return MixedDataset([dataset for dataset in datasets if len(dataset)] or datasets[:1])


def folders_of(path: str) -> list[str]:
    """The folders that a path names; a folder with a comma in its name is one."""
    if pathlib.Path(path).expanduser().exists():
        return [path]
    return [part.strip() for part in path.split(",")]


def weights_of(rows: RowSource, weights: str) -> list[float]:
    """How often the datasets are drawn, relative to each other.

    Args:
      rows: what is mixed.
      weights: numbers with commas between them; "": every row equally often.

    Raises:
      UserError: these are no numbers, or not one for each dataset.
    """
    datasets = rows.datasets if isinstance(rows, MixedDataset) else [rows]
    if not weights:
        return [float(len(dataset)) for dataset in datasets]
    try:
        numbers = [float(part) for part in weights.split(",")]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) != len(datasets) or not all(0 < number < math.inf for number in numbers):
        raise UserError(
            f"config.data.weights is {weights!r}; for the {len(datasets)} datasets of "
            f"config.data.path, {rows.folder}, it must be {len(datasets)} positive numbers with "
            "commas between them, or empty to draw every row equally often."
        )
    return numbers


def _check_alike(first: RecordDataset, other: RecordDataset) -> None:
    def decisive(manifest: Manifest) -> dict[str, object]:
        return {
            "tokenizer": manifest.tokenizer.fingerprint,
            "sequence_length": manifest.sequence_length,
            "attention": manifest.attention,
            "labels per row": manifest.label_slots,
        }

    one, two = decisive(first.manifest), decisive(other.manifest)
    different = [f"{name} {one[name]} and {two[name]}" for name in one if one[name] != two[name]]
    if different:
        raise UserError(
            f"The datasets {first.folder} and {other.folder} cannot be mixed: they have "
            f"{', '.join(different)}. Prepare them with the same tokenizer and settings."
        )
