"""Writes what `torch.save` writes, without torch, and what it would not write."""

import collections
import dataclasses
import io
import pickle
import struct
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


@dataclasses.dataclass(eq=False)
class Named:
    """Pickled as a global; with `arguments` called, with `state` built."""

    module: str
    name: str
    arguments: tuple | None = None
    state: object = None


@dataclasses.dataclass(eq=False)
class Storage:
    """Pickled as a persistent id."""

    kind: str
    content: bytes
    count: int
    key: str = "0"
    view: tuple | None = None
    module: str = "torch"


class TorchPickler(pickle._Pickler):
    """Protocol 2, as torch.save; unlike the C pickler it writes names that cannot be imported."""

    def __init__(self, file, form):
        super().__init__(file, 2)
        self.form, self.storages = form, {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        self.storages[obj.key] = obj
        view = (obj.view,) if self.form == "legacy" else ()
        return ("storage", Named(obj.module, obj.kind), obj.key, "cpu", obj.count, *view)

    def save_named(self, obj):
        self.write(f"c{obj.module}\n{obj.name}\n".encode())
        if obj.arguments is not None:
            self.save(obj.arguments)
            self.write(b"R")
        if obj.state is not None:
            self.save(obj.state)
            self.write(b"b")

    dispatch = {**pickle._Pickler.dispatch, Named: save_named}


def tensor(values, kind="FloatStorage", *, key="0", shape=None, strides=None, offset=0):
    """A tensor whose storage holds `values`."""
    values = np.asarray(values)
    shape = values.shape if shape is None else shape
    if strides is None:
        strides = tuple(stride // values.itemsize for stride in values.strides)
    storage = Storage(kind, values.tobytes(), values.size, key)
    return rebuilt(storage, offset, shape, strides)


def rebuilt(storage, offset, shape, strides, *metadata):
    hooks = collections.OrderedDict()
    arguments = storage, offset, shape, strides, False, hooks, *metadata
    return Named("torch._utils", "_rebuild_tensor_v2", arguments)


def write(path, value, form, **changes):
    """Saves `value`, in which Named and Storage stand for what torch would pickle."""
    buffer = io.BytesIO()
    pickler = TorchPickler(buffer, form)
    pickler.dump(value)
    write_pickle(path, buffer.getvalue(), form, pickler.storages, **changes)
    return path


def write_pickle(path, pickled, form, storages=None, **changes):
    storages = storages or {}
    if form == "zip":
        compression = changes.get("compression", zipfile.ZIP_STORED)
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("model/data.pkl", pickled)
            archive.writestr("model/byteorder", changes.get("byteorder", "little"))
            for key, storage in storages.items():
                archive.writestr(f"model/data/{key}", storage.content)
            archive.writestr("model/version", "3\n")
        return path
    with path.open("wb") as file:
        for part in (changes.get("magic", MAGIC), 1001, changes.get("system", SYSTEM)):
            pickle.dump(part, file, 2)
        file.write(pickled)
        pickle.dump(sorted(storages), file, 2)
        for _, storage in sorted(storages.items()):
            file.write(struct.pack("<Q", storage.count % 2**64) + storage.content)
    return path
