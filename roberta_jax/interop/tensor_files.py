"""Safetensors files: read one tensor at a time, written one tensor at a time."""

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from roberta_jax.errors import UserError

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
# Types of the format ↔ NumPy's.
_DTYPES: dict[str, Any] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "F64": np.dtype(np.float64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_LFS_START = b"version https://git-lfs"  # What a clone without Git LFS has instead of the file.

# Name → a function that reads the tensor.
Tensors = Mapping[str, Callable[[], np.ndarray]]


def open_tensors(folder: pathlib.Path) -> Tensors:
    """The tensors of `model.safetensors`, or of the shards that its index names; nothing is read.

    Raises:
      UserError: there are none, or a file is cut off or damaged.
    """
    if (folder / SINGLE_NAME).exists():
        return dict(_tensors_of(folder / SINGLE_NAME))
    if not (folder / INDEX_NAME).exists():
        pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        hint = (
            f" It has {pickled[0]}; open it with transformers and save_pretrained it, which writes "
            "safetensors."
            if pickled
            else ""
        )
        raise UserError(
            f"{folder} has no weights: neither {SINGLE_NAME} nor {INDEX_NAME} is there.{hint}"
        )
    weight_map = _weight_map(folder / INDEX_NAME)
    tensors: dict[str, Callable[[], np.ndarray]] = {}
    for file in sorted(set(weight_map.values())):
        for name, read in _tensors_of(folder / file):
            # What another file has as well is read from the one that the index names.
            if weight_map.get(name, file) == file:
                tensors[name] = read
    lost = sorted(set(weight_map) - set(tensors))
    if lost:
        raise UserError(
            f"The index {folder / INDEX_NAME} names {len(lost)} tensors that its files do not "
            f"hold, the first being {lost[0]}. Copy the folder again."
        )
    return tensors


def _weight_map(path: pathlib.Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = {pathlib.PurePath(file) for file in weight_map.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The index {path} is damaged ({error!r}). Copy it again.") from error
    for file in sorted(files):
        if file.name != str(file) or file.name == "..":
            raise UserError(
                f"The index {path} names a file outside its folder, {str(file)!r}. Shards lie "
                "beside the index; copy the folder again."
            )
    return weight_map


def _tensors_of(path: pathlib.Path) -> Iterable[tuple[str, Callable[[], np.ndarray]]]:
    try:
        file = safe_open(path, framework="np")
        names = list(file.keys())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; the index names it. Copy it again.") from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is no whole safetensors file ({error}). "
            + (
                "It is a pointer of Git LFS: fetch the file itself with `git lfs pull`."
                if _is_lfs_pointer(path)
                else "Copy it again from where it is intact."
            )
        ) from error

    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            try:
                return file.get_tensor(name)
            except (SafetensorError, TypeError, AttributeError) as error:
                raise UserError(f"The tensor {name} of {path} cannot be read: {error}.") from error

        return read

    return [(name, reader(name)) for name in names]


def _is_lfs_pointer(path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_LFS_START)) == _LFS_START


def write_tensors(
    path: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, np.ndarray]],
    *,
    dtype: np.dtype,
) -> None:
    """Writes a safetensors file while holding one tensor at a time.

    Args:
      path: the file.
      shapes: name → shape of everything that will come.
      tensors: (name, array), each once, in any order.
      dtype: the type in which all are stored.
    """
    places, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        places[name] = (begin, end)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for this.
    for name, shape in shapes.items():
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": list(places[name]),
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The data begin at a multiple of 8 bytes.
    left = set(shapes)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors:
            assert tensor.shape == shapes[name], (name, tensor.shape, shapes[name])
            left.remove(name)
            file.seek(8 + len(text) + places[name][0])
            stored = np.ascontiguousarray(tensor, dtype.newbyteorder("<"))
            # As bytes: bfloat16 is no type that a buffer can have.
            file.write(stored.reshape(-1).view(np.uint8).data)
    assert not left, f"nothing was given for {sorted(left)}"
