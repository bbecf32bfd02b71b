"""Unpickles what `torch.save` pickled, without importing or running anything that it names.

A pickle can name any function of the Python installation and have it called. Here every name
becomes a stand-in of this module: the few that rebuild tensors and plain containers do so, all
others take whatever they are given and do nothing.
"""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

COPY_AGAIN = "Copy or download it again."
SAVE_AGAIN = (
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


class Unreadable(Exception):
    """Its arguments: why the file cannot be read, and what to do."""


def damaged(reason: str) -> Unreadable:
    """The error for a file that contradicts itself."""
    return Unreadable(f"it is truncated or damaged ({reason})", COPY_AGAIN)


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


class Storage(NamedTuple):
    """Bytes `start` to `start + size` of a storage; immutable, as the file can reach it."""

    key: str
    dtype: np.dtype[Any]
    start: int
    size: int

    def __hash__(self) -> int:
        raise TypeError("a tensor as a key")  # An array can be none either.


class Tensor(NamedTuple):
    """A tensor before its storage is found; offset, shape and strides count elements."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any = None, _hooks: Any = None,
    *rest: Any,
) -> Tensor:  # fmt: skip
    """Takes what torch's _rebuild_tensor, _v2 (`rest`: metadata) and _v3 (dtype, metadata) take."""
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, Storage)
        or not all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        or len(shape) != len(strides)
    ):
        raise damaged("the offset, shape or strides of a tensor")
    dtype = storage.dtype
    for item in rest:
        if hasattr(item, "dotted_name"):
            dtype = _dtype(item)
        elif item:
            raise Unreadable(f"a tensor has the lazy operations {item!r:.100}", SAVE_AGAIN)
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


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
        raise Unreadable(f"it holds a {name}", SAVE_AGAIN)
    return _DTYPES[cpu_name]


class _Unpickler(pickle.Unpickler):
    """Imports nothing; keeps the storages that the pickle names in `storages`."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        module = "builtins" if module == "__builtin__" else module  # Protocol 2 has Python 2's.
        dotted_name = f"{module}.{name}"
        if dotted_name in _KNOWN:
            return _KNOWN[dotted_name]
        if dotted_name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            raise Unreadable(f"it holds a tensor that needs {dotted_name}", SAVE_AGAIN)
        return _stand_in(dotted_name)

    def persistent_load(self, saved: Any) -> Any:
        match saved:
            case ("module", stand_in, *_):
                return stand_in
            case ("storage", stand_in, str(key), _, int(count), *view) if count >= 0:
                dtype = _dtype(stand_in)
                storage = Storage(key, dtype, 0, count * dtype.itemsize)
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
                    return Storage(key, dtype, start, size)
        raise pickle.UnpicklingError(f"the view {view!r:.100} of the storage {key}")


def unpickle(file: Any) -> tuple[Any, dict[str, Storage]]:
    """The next pickle of an open file: its value, and the storages that it names.

    Raises Unreadable when it is damaged, or holds other kinds of tensors.
    """
    unpickler = _Unpickler(file)
    try:
        return unpickler.load(), unpickler.storages
    # What damaged bytes make pickle raise; its documentation does not limit the list.
    except (pickle.UnpicklingError, EOFError, MemoryError, AttributeError, LookupError) as error:
        raise damaged(str(error) or type(error).__name__) from error
    except (ArithmeticError, TypeError, ValueError) as error:
        raise damaged(str(error)) from error
