"""Reads what `torch.save` wrote, without torch and without running anything that the file names.

A pickle can name any function of the Python installation and have it called. Here every name
becomes a stand-in of this module: the few that rebuild tensors and plain containers do so, all
others take whatever they are given and do nothing. A second step turns the result into plain
values, and tensors into arrays over the mapped file: bytes are read when an array is used.
"""

import dataclasses
import io
import mmap
import operator
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from roberta_jax.errors import UserError

_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_BIG_ENDIAN = "a big-endian machine wrote it"
_COPY_AGAIN = "Copy or download it again."
_NOT_TORCH = "Give a file that torch.save wrote, such as the model.pt of a fairseq checkpoint."
_SAVE_AGAIN = (
    "Dense tensors of floats, integers and booleans can be read, written by torch.save on a "
    "little-endian machine: load the file with torch, convert what is in it and save it again."
)

# By the name that the file gives a storage's type, or a tensor's where the storage has none.
# fmt: off
_DTYPES = {
    f"torch.{name}": np.dtype(dtype)
    for name, dtype in {
        "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2",
        "BFloat16Storage": ml_dtypes.bfloat16,
        "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1",
        "ByteStorage": "u1", "BoolStorage": "?",
        "ComplexDoubleStorage": "<c16", "ComplexFloatStorage": "<c8",
        "storage.UntypedStorage": "u1",
        "uint64": "<u8", "uint32": "<u4", "uint16": "<u2",
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
    }.items()
}
# fmt: on

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
                raise _Unreadable("it is empty", _COPY_AGAIN)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            file.seek(0)
            read = _read_zip if start == _ZIP_START else _read_legacy
            value, starts = read(file, mapped)
        return _Values(mapped, starts).plain(value)
    except (OSError, RecursionError, _Unreadable) as error:
        if isinstance(error, _Unreadable):
            reason, advice = error.args
        else:  # Lists in lists without end, in the case of the recursion.
            reason, advice = getattr(error, "strerror", None) or str(error), _NOT_TORCH
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint: {reason}. {advice}"
        ) from error


class _Unreadable(Exception):
    """Its arguments: why the file cannot be read, and what to do."""


def _damaged(reason: str) -> _Unreadable:
    return _Unreadable(f"it is truncated or damaged ({reason})", _COPY_AGAIN)


# ---- What lies on the unpickler's stack. A file can do to each of these, classes included, what
# pickle's opcodes can: call it, build a state into it, append to it. Without `__setstate__` the
# BUILD opcode would write attributes: each class has one, or is a tuple without attributes.


class _Inert:
    """A stand-in for a named class or function, and for its instances: does nothing."""

    __slots__ = ()
    dotted_name: str

    def __new__(cls, *_arguments: Any, **_named: Any) -> Any:
        return object.__new__(cls)

    def __call__(self, *_arguments: Any) -> Any:
        return self

    @staticmethod  # Called on the class just as on an instance.
    def __setstate__(*_state: Any) -> None:
        return

    append = extend = add = __setitem__ = __setstate__


def _stand_in(dotted_name: str, function: Callable[..., Any] | None = None) -> type[_Inert]:
    """A class, as some opcodes ask for one; calling it calls `function`."""
    members: dict[str, Any] = {"__slots__": (), "dotted_name": dotted_name}
    if function is not None:
        members["__new__"] = lambda _cls, *arguments: function(*arguments)
    return type("_Inert", (_Inert,), members)


class _Namespace(dict[Any, Any]):
    """An `argparse.Namespace` as a dict of its attributes."""

    __slots__ = ()
    dotted_name = "argparse.Namespace"

    def __setstate__(self, state: Any) -> None:
        self.update(state)


class _OrderedDict(_Namespace):
    """A dict without attributes: `_metadata` of a state dict is dropped."""

    __slots__ = ()
    dotted_name = "collections.OrderedDict"

    def __setstate__(self, _state: Any) -> None:
        return


class _Storage(NamedTuple):
    """Bytes `start` to `start + size` of a storage; immutable, as the file can reach it."""

    key: str
    dtype: np.dtype[Any]
    start: int
    size: int

    def __hash__(self) -> int:
        raise TypeError("a tensor as a key")  # An array can be none either.


class _Tensor(NamedTuple):
    """A tensor before its storage is found; offset, shape and strides count elements."""

    storage: _Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any = None, _hooks: Any = None,
    *rest: Any,
) -> _Tensor:  # fmt: skip
    """Takes what torch's _rebuild_tensor, _v2 (`rest`: metadata) and _v3 (dtype, metadata) take."""
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, _Storage)
        or not all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        or len(shape) != len(strides)
    ):
        raise _damaged("the offset, shape or strides of a tensor")
    dtype = storage.dtype
    for item in rest:
        if hasattr(item, "dotted_name"):
            dtype = _dtype(item)
        elif item:
            raise _Unreadable(f"a tensor has the lazy operations {item!r:.100}", _SAVE_AGAIN)
    return _Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


def _latin_1(text: str = "", encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes. Any other encoding could import a module."""
    if encoding != "latin1":
        raise ValueError(f"bytes as {encoding!r:.100}")
    return str.encode(text, "latin1")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "builtins.bytes": _latin_1,
    "builtins.complex": complex,
    "builtins.frozenset": frozenset,
    "builtins.set": set,
    "_codecs.encode": _latin_1,
    "torch.Size": lambda numbers=(): tuple(numbers),
    "torch._utils._rebuild_parameter": lambda data, *_rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_rest: data,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor,
}
_KNOWN: dict[str, Any] = {
    "argparse.Namespace": _Namespace,
    "collections.OrderedDict": _OrderedDict,
    **{name: _stand_in(name, function) for name, function in _FUNCTIONS.items()},
}


def _dtype(stand_in: Any) -> np.dtype[Any]:
    name = getattr(stand_in, "dotted_name", "nameless tensor")
    cpu_name = name.replace("torch.cuda.", "torch.")  # Old versions of torch name the device.
    if cpu_name not in _DTYPES:
        raise _Unreadable(f"it holds a {name}", _SAVE_AGAIN)
    return _DTYPES[cpu_name]


class _Unpickler(pickle.Unpickler):
    """Imports nothing; keeps the storages that the pickle names in `storages`."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        module = "builtins" if module == "__builtin__" else module  # Protocol 2 has Python 2's.
        dotted_name = f"{module}.{name}"
        if dotted_name in _KNOWN:
            return _KNOWN[dotted_name]
        if dotted_name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            raise _Unreadable(f"it holds a tensor that needs {dotted_name}", _SAVE_AGAIN)
        return _stand_in(dotted_name)

    def persistent_load(self, saved: Any) -> Any:
        match saved:
            case ("module", stand_in, *_):
                return stand_in
            case ("storage", stand_in, str(key), _, int(count), *view) if count >= 0:
                dtype = _dtype(stand_in)
                storage = _Storage(key, dtype, 0, count * dtype.itemsize)
            case _:
                raise pickle.UnpicklingError(f"the persistent id {saved!r:.100}")
        if self.storages.setdefault(key, storage).size != storage.size:
            raise pickle.UnpicklingError(f"two sizes of the storage {key}")
        match view:
            case [] | [None]:
                return storage
            case [(_, int(start), int(count))] if start >= 0 and count >= 0:
                start, size = start * dtype.itemsize, count * dtype.itemsize
                if start + size <= storage.size:
                    return _Storage(key, dtype, start, size)
        raise pickle.UnpicklingError(f"the view {view!r:.100} of the storage {key}")


def _unpickle(file: Any) -> tuple[Any, dict[str, _Storage]]:
    unpickler = _Unpickler(file)
    try:
        return unpickler.load(), unpickler.storages
    # What damaged bytes make pickle raise; its documentation does not limit the list.
    except (pickle.UnpicklingError, EOFError, MemoryError, AttributeError, LookupError) as error:
        raise _damaged(str(error) or type(error).__name__) from error
    except (ArithmeticError, TypeError, ValueError) as error:
        raise _damaged(str(error)) from error


# ---- The two forms. Each returns the unpickled value and where in the file each storage starts.


def _read_zip(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, dict[str, int]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        raise _damaged(str(error)) from error
    roots = [name.split("/")[0] for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1 or f"{roots[0]}/constants.pkl" in members:
        raise _Unreadable("it is a zip archive of something else, or TorchScript", _NOT_TORCH)

    def extent(name: str) -> slice:
        member = members.get(f"{roots[0]}/{name}")
        if member is None:
            raise _damaged(f"{name} is missing")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise _Unreadable(
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
        raise _damaged(f"{name} is not where the directory says")

    if f"{roots[0]}/byteorder" in members and mapped[extent("byteorder")] != b"little":
        raise _Unreadable(_BIG_ENDIAN, _SAVE_AGAIN)
    value, storages = _unpickle(io.BytesIO(mapped[extent("data.pkl")]))
    starts = {}
    for key, storage in storages.items():
        found = extent(f"data/{key}")
        if found.stop - found.start != storage.size:
            raise _damaged(f"the storage {key} does not have {storage.size} bytes")
        starts[key] = found.start
    return value, starts


def _read_legacy(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, dict[str, int]]:
    try:
        magic, _ = _unpickle(file)
    except _Unreadable:
        magic = None
    if magic != _LEGACY_MAGIC:
        raise _Unreadable("it does not begin like one", _NOT_TORCH)
    version, _ = _unpickle(file)
    if version != _LEGACY_VERSION:
        raise _damaged(f"version {version!r:.100} instead of {_LEGACY_VERSION}")
    system, _ = _unpickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Unreadable(_BIG_ENDIAN, _SAVE_AGAIN)
    value, storages = _unpickle(file)
    keys, _ = _unpickle(file)
    if not isinstance(keys, list) or sorted(storages) != keys:
        raise _damaged("its list of storages")
    starts, position = {}, file.tell()
    for key in keys:
        size = storages[key].size
        header = mapped[position : position + 8]
        starts[key] = position + 8
        position += 8 + size
        if position > len(mapped):
            raise _damaged(f"the storage {key} has {size} bytes, and the file ends before")
        if struct.unpack("<q", header)[0] * storages[key].dtype.itemsize != size:
            raise _damaged(f"the storage {key} does not have {size} bytes")
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
        if isinstance(value, _Tensor):
            made = self._array(value)
        elif isinstance(value, _Storage):
            count = value.size // value.dtype.itemsize
            made = self._array(_Tensor(value, value.dtype, 0, (count,), (1,)))
        elif isinstance(value, (tuple, set, frozenset)):
            made = type(value)(self.plain(item) for item in value)
        else:
            made = Opaque(value.dotted_name)
        self._made[id(value)] = value, made
        return made

    def _array(self, tensor: _Tensor) -> np.ndarray:
        storage, itemsize = tensor.storage, tensor.dtype.itemsize
        steps = [itemsize * stride for stride in tensor.strides]
        end = tensor.offset * itemsize
        if 0 not in tensor.shape:
            lasts = (length - 1 for length in tensor.shape)
            end += itemsize + sum(map(operator.mul, lasts, steps))
        if end > storage.size:
            raise _damaged(f"{tensor!r:.300} lies outside of its storage")
        start = self._starts[storage.key] + storage.start + tensor.offset * itemsize
        try:
            return np.ndarray(tensor.shape, tensor.dtype, self._mapped, start, tuple(steps))
        except (OverflowError, ValueError) as error:  # More than NumPy can count.
            raise _damaged(f"a tensor of shape {tensor.shape}: {error}") from error
