"""Short names of rows and weights, by which a trial knows whether it would still be the same."""

import hashlib
from collections.abc import Sequence

import jax
import numpy as np

from roberta_jax.encoder.model import Params
from roberta_jax.finetune.rows import SplitRows
from roberta_jax.parallel.tables import path_name

_DIGITS = 16


def weights_fingerprint(params: Params) -> str:
    """16 hex digits of names, shapes and values; "drawn" of no weights at all."""
    found = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        _add(found, path_name(path), np.asarray(leaf))
    return found.hexdigest()[:_DIGITS] if leaves else "drawn"


def rows_fingerprint(splits: Sequence[SplitRows]) -> str:
    """16 hex digits of the examples of these splits and of the rows that are made of them."""
    found = hashlib.sha256()
    for split in splits:
        rows = split.rows
        found.update(f"{split.name} {rows.group_size}".encode())
        for example in split.examples:
            found.update(repr(example).encode("utf-8", "surrogatepass"))
        for name in ("ids", "second_starts", "targets", "word_places"):
            values = getattr(rows, name)
            if values is None:
                continue
            if not isinstance(values, np.ndarray):
                _add(found, f"{name} lengths", np.array([len(each) for each in values], np.int64))
                values = np.concatenate([np.zeros(0, np.int32), *values])
            _add(found, name, values)
    return found.hexdigest()[:_DIGITS]


def _add(found: "hashlib._Hash", name: str, array: np.ndarray) -> None:
    found.update(f"{name} {array.dtype} {array.shape}".encode())
    found.update(np.ascontiguousarray(array).data)
