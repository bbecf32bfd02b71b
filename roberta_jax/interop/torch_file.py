"""Reads what `torch.save` wrote, without torch and without running anything that the file names.

`torch_pickle` unpickles. What it gives becomes plain values here, and tensors become arrays over
the mapped file: bytes are read when an array is used.
"""

import dataclasses
import io
import mmap
import operator
import pathlib
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from roberta_jax.errors import UserError
from roberta_jax.interop.torch_pickle import (
    COPY_AGAIN,
    SAVE_AGAIN,
    Storage,
    Tensor,
    Unreadable,
    damaged,
    unpickle,
)

_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_BIG_ENDIAN = "a big-endian machine wrote it"
_NOT_TORCH = "Give a file that torch.save wrote, such as the model.pt of a fairseq checkpoint."

_ATOMS = (type(None), int, float, complex, str, bytes, bytearray)


@dataclasses.dataclass(frozen=True, eq=False)
class Opaque:
    """Stands for an object that this module does not rebuild, for a class or for a function."""

    dotted_name: str  # What the file calls it, or its class: "omegaconf.dictconfig.DictConfig".


def read_torch_file(path: pathlib.Path) -> Any:
    """What `torch.save` wrote: nested dicts, lists, numbers, strings; tensors as NumPy arrays.

    Both forms are read, the zip archive (torch 1.6 and later) and the pickles before it. The
    arrays are read-only views of the file, which must stay as it is while they are in use. An
    `argparse.Namespace` becomes a dict of its attributes, an `OrderedDict` a dict, a parameter its
    array, and any other object an `Opaque`.

    Raises UserError when it is no such file, damaged, or holds other kinds of tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP_START))
            if not start:
                raise Unreadable("it is empty", COPY_AGAIN)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            file.seek(0)
            read = _read_zip if start == _ZIP_START else _read_legacy
            value, starts = read(file, mapped)
        return _Values(mapped, starts).plain(value)
    except (OSError, RecursionError, Unreadable) as error:
        if isinstance(error, Unreadable):
            reason, advice = error.args
        else:  # Lists in lists without end, in the case of the recursion.
            reason, advice = getattr(error, "strerror", None) or str(error), _NOT_TORCH
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint: {reason}. {advice}"
        ) from error


# ---- The two forms. Each returns the unpickled value and where in the file each storage starts.


def _read_zip(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, dict[str, int]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        raise damaged(str(error)) from error
    roots = [name.split("/")[0] for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1 or f"{roots[0]}/constants.pkl" in members:
        raise Unreadable("it is a zip archive of something else, or TorchScript", _NOT_TORCH)

    def extent(name: str) -> slice:
        member = members.get(f"{roots[0]}/{name}")
        if member is None:
            raise damaged(f"{name} is missing")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise Unreadable(
                f"its member {name} is compressed or encrypted, which torch.save does not do",
                "Unpack it and pack it again without compression (zip -0).",
            )
        # The local header: its name and its extra field need not be as long as the directory's.
        start = member.header_offset + 30
        header = mapped[member.header_offset : start]
        if len(header) == 30 and header.startswith(_ZIP_START):
            start += sum(struct.unpack("<HH", header[26:]))
            if start + member.file_size <= len(mapped):
                return slice(start, start + member.file_size)
        raise damaged(f"{name} is not where the directory says")

    if f"{roots[0]}/byteorder" in members and mapped[extent("byteorder")] != b"little":
        raise Unreadable(_BIG_ENDIAN, SAVE_AGAIN)
    value, storages = unpickle(io.BytesIO(mapped[extent("data.pkl")]))
    starts = {}
    for key, storage in storages.items():
        found = extent(f"data/{key}")
        if found.stop - found.start != storage.size:
            raise damaged(f"the storage {key} does not have {storage.size} bytes")
        starts[key] = found.start
    return value, starts


def _read_legacy(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, dict[str, int]]:
    try:
        magic, _ = unpickle(file)
    except Unreadable:
        magic = None
    if magic != _LEGACY_MAGIC:
        raise Unreadable("it does not begin like one", _NOT_TORCH)
    version, _ = unpickle(file)
    if version != _LEGACY_VERSION:
        raise damaged(f"version {version!r:.100} instead of {_LEGACY_VERSION}")
    system, _ = unpickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Unreadable(_BIG_ENDIAN, SAVE_AGAIN)
    value, storages = unpickle(file)
    keys, _ = unpickle(file)
    if not isinstance(keys, list) or sorted(storages) != keys:
        raise damaged("its list of storages")
    starts, position = {}, file.tell()
    for key in keys:
        size = storages[key].size
        header = mapped[position : position + 8]
        starts[key] = position + 8
        position += 8 + size
        if position > len(mapped):
            raise damaged(f"the storage {key} has {size} bytes, and the file ends before")
        if struct.unpack("<q", header)[0] * storages[key].dtype.itemsize != size:
            raise damaged(f"the storage {key} does not have {size} bytes")
    return value, starts


class _Values:
    """Makes plain values of what was unpickled; what the file shares stays shared."""

    def __init__(self, mapped: mmap.mmap, starts: dict[str, int]):
        self._mapped, self._starts = mapped, starts
        # By identity, with the original: an identity is only good while its object lives.
        self._made: dict[int, tuple[Any, Any]] = {}

    def plain(self, value: Any) -> Any:
        if isinstance(value, _ATOMS):
            return value
        if id(value) in self._made:
            return self._made[id(value)][1]
        made: Any
        # A dict or list is known before its items are made, as they may contain it.
        if isinstance(value, dict):
            self._made[id(value)] = value, (made := {})
            made.update((self.plain(key), self.plain(item)) for key, item in value.items())
            return made
        if isinstance(value, list):
            self._made[id(value)] = value, (made := [])
            made.extend(self.plain(item) for item in value)
            return made
        if isinstance(value, Tensor):
            made = self._array(value)
        elif isinstance(value, Storage):
            count = value.size // value.dtype.itemsize
            made = self._array(Tensor(value, value.dtype, 0, (count,), (1,)))
        elif isinstance(value, (tuple, set, frozenset)):
            made = type(value)(self.plain(item) for item in value)
        else:
            made = Opaque(value.dotted_name)
        self._made[id(value)] = value, made
        return made

    def _array(self, tensor: Tensor) -> np.ndarray:
        storage, itemsize = tensor.storage, tensor.dtype.itemsize
        steps = [itemsize * stride for stride in tensor.strides]
        end = tensor.offset * itemsize
        if 0 not in tensor.shape:
            lasts = (length - 1 for length in tensor.shape)
            end += itemsize + sum(map(operator.mul, lasts, steps))
        if end > storage.size:
            raise damaged(f"{tensor!r:.300} lies outside of its storage")
        start = self._starts[storage.key] + storage.start + tensor.offset * itemsize
        try:
            return np.ndarray(tensor.shape, tensor.dtype, self._mapped, start, tuple(steps))
        except (OverflowError, ValueError) as error:  # More than NumPy can count.
            raise damaged(f"a tensor of shape {tensor.shape}: {error}") from error
