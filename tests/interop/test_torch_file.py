"""Files are built by hand, without torch; the last tests compare with torch where it is there."""

import argparse
import collections
import contextlib
import io
import pathlib
import pickle
import re
import struct
import sys
import zipfile
from types import FunctionType

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

from roberta_jax.errors import UserError
from roberta_jax.interop import torch_file, torch_pickle
from roberta_jax.interop.torch_file import Opaque, read_torch_file
from tests.interop.torch_writer import (
    SYSTEM,
    Named,
    Storage,
    TorchPickler,
    rebuilt,
    tensor,
    write,
    write_pickle,
)

FORMS = ["zip", "legacy"]
both_forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def assert_same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        assert actual.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    else:
        assert actual == expected


ROWS = np.arange(6, dtype="f4").reshape(2, 3)


def checkpoint():
    """What fairseq saves, made small; with what is read from it."""
    state = collections.OrderedDict(
        [
            ("decoder.weight", tensor(ROWS, key="1")),
            ("decoder.bias", tensor(np.array([1, 2], "f2"), "HalfStorage", key="2")),
        ]
    )
    model = Named("collections", "OrderedDict", (list(map(list, state.items())),), {"_metadata": 1})
    value = {
        "args": argparse.Namespace(arch="roberta_base", dropout=0.1, heads=["a", ("b", None)]),
        "model": model,
        "extra_state": {"epoch": 3, "best": Named("numpy.core.multiarray", "scalar", (1,))},
    }
    weights = {"decoder.weight": ROWS, "decoder.bias": np.array([1, 2], "f2")}
    arguments = {"arch": "roberta_base", "dropout": 0.1, "heads": ["a", ("b", None)]}
    return value, arguments, weights


@both_forms
def test_a_fairseq_checkpoint(path, form):
    value, arguments, weights = checkpoint()
    read = read_torch_file(write(path, value, form))
    assert_same(read["args"], arguments)
    assert_same(read["model"], weights)
    assert read["extra_state"]["epoch"] == 3
    assert read["extra_state"]["best"].dotted_name == "numpy.core.multiarray.scalar"


@both_forms
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", "f8"),
        ("FloatStorage", "f4"),
        ("HalfStorage", "f2"),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", "i8"),
        ("IntStorage", "i4"),
        ("ShortStorage", "i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
        ("ComplexFloatStorage", "c8"),
        ("ComplexDoubleStorage", "c16"),
    ],
)
def test_every_dtype(path, form, kind, dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    assert_same(read_torch_file(write(path, tensor(values, kind), form)), values)


def test_old_storage_types_name_the_gpu(path):
    storage = Storage("HalfStorage", b"\0\x3c", 1, module="torch.cuda")
    read = read_torch_file(write(path, rebuilt(storage, 0, (1,), (1,)), "legacy"))
    assert_same(read, np.array([1], "f2"))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("uint16", "u2"), ("uint64", "u8"), ("float8_e4m3fn", ml_dtypes.float8_e4m3fn)],
)
def test_dtypes_without_a_storage_type(path, name, dtype):
    values = np.array([1, 2, 3], dtype)
    storage = Storage("UntypedStorage", values.tobytes(), values.nbytes, module="torch.storage")
    arguments = storage, 1, (2,), (1,), False, collections.OrderedDict(), Named("torch", name)
    value = Named("torch._utils", "_rebuild_tensor_v3", arguments)
    assert_same(read_torch_file(write(path, value, "zip")), values[1:])


@both_forms
@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (2, 3), (3, 1), ROWS),
        (0, (3, 2), (1, 3), ROWS.T),
        (1, (2, 2), (3, 1), ROWS[:, 1:]),
        (4, (), (), ROWS[1, 1]),
        (2, (2, 1), (3, 1), ROWS[:, 2:]),
        (3, (4, 2), (0, 2), np.broadcast_to(ROWS[1, ::2], (4, 2))),
        (5, (1, 1), (99, 99), ROWS[1:, 2:]),
        (6, (0,), (1,), ROWS[:0, 0]),
        (0, (3, 0, 2), (2, 2, 1), np.zeros((3, 0, 2), "f4")),
    ],
)
def test_views(path, form, offset, shape, strides, expected):
    value = tensor(ROWS, offset=offset, shape=shape, strides=strides)
    assert_same(read_torch_file(write(path, value, form)), np.asarray(expected))


@both_forms
def test_arrays_are_read_only_and_shared_storages_are_shared(path, form):
    storage = Storage("FloatStorage", ROWS.tobytes(), 6)
    one, other = rebuilt(storage, 0, (2, 3), (3, 1)), rebuilt(storage, 0, (6,), (1,))
    parameter = Named("torch._utils", "_rebuild_parameter", (one, True, {}))
    first, second, third = read_torch_file(write(path, [parameter, other, one], form))
    assert_same([first, second, third], [ROWS, ROWS.ravel(), ROWS])
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    with pytest.raises(ValueError):
        first.flags.writeable = True


@pytest.mark.parametrize("view", [("8", 2, 3), ("8", 3, 3)])
def test_storage_views_of_old_files(path, view):
    storage = Storage("FloatStorage", ROWS.tobytes(), 6, view=view)
    read = read_torch_file(write(path, rebuilt(storage, 1, (2,), (1,)), "legacy"))
    assert_same(read, ROWS.ravel()[view[1] + 1 :][:2])


@both_forms
def test_a_storage_alone_is_a_flat_array(path, form):
    storage = Storage("LongStorage", np.arange(3).tobytes(), 3)
    assert_same(read_torch_file(write(path, storage, form)), np.arange(3))


@both_forms
def test_plain_values(path, form):
    value = {
        "numbers": [1, -(2**70), 1.5, True, None, 2 + 3j],
        "text": ("é", b"", b"\xff\0"),
        "sets": [{1, 2}, frozenset([3])],
        "empty": [[], {}, (), set()],
    }
    assert_same(read_torch_file(write(path, value, form)), value)
    size = Named("torch", "Size", ((2, 3),))
    assert_same(read_torch_file(write(path, size, form)), (2, 3))


def test_cycles_and_shared_objects_stay(path):
    cycle, shared = [], {}
    cycle.append((cycle, shared))
    read, other = read_torch_file(write(path, [cycle, shared], "zip"))
    assert read[0][0] is read
    assert read[0][1] is other


def test_a_tuple_of_tuples_is_made_once(path):
    value = ()
    for _ in range(200):  # 2**200 when each is made as often as it is met.
        value = value, value
    read = read_torch_file(write(path, value, "zip"))
    assert read[0] is read[1]


@both_forms
def test_unknown_objects_are_opaque_and_what_is_beside_them_is_read(path, form):
    config = Named("omegaconf.dictconfig", "DictConfig", (), {"_content": {"a": 1}})
    member = Named("fairseq.dataclass.constants", "GENERATION", ("beam",))
    value = {
        "cfg": config,
        "type": Named("typing", "Any"),
        "default": Named("collections", "defaultdict", (Named("builtins", "list"),)),
        "keys": {member: 1},
        "weight": tensor(ROWS),
    }
    read = read_torch_file(write(path, value, form))
    names = [read[key].dotted_name for key in ("cfg", "type", "default")]
    assert names == ["omegaconf.dictconfig.DictConfig", "typing.Any", "collections.defaultdict"]
    assert [type(key) for key in read["keys"]] == [Opaque]
    assert not vars(Opaque).keys() & {"_content", "a"}
    assert_same(read["weight"], ROWS)


def test_opaque_objects_take_items(path):
    name = b"cqueue\nodd\n"
    for opcodes in (
        name + b")RK\x01a",  # append
        name + b")R(K\x01K\x02e",  # appends
        name + b")RK\x01K\x02s",  # setitem
        name + b")R(K\x01K\x02u",  # setitems
        b"\x80\x04" + name + b")R(K\x01\x90",  # additems
        name + b"K\x01a",  # append to the class
        name + b"}X\x01\0\0\0aK\x01sb",  # build into the class
        name + b"N}X\x01\0\0\0aK\x01s\x86b",  # build its slots
        name + b")R)R",  # call what a call returned
        b"\x80\x04" + name + b")}X\x01\0\0\0aK\x01s\x92",  # newobj with keywords
        b"(" + name + b"K\x01o",
        b"(K\x01iqueue\nodd\n",
    ):
        read = read_torch_file(write_pickle(path, opcodes + b".", "zip"))
        assert (type(read), read.dotted_name) == (Opaque, "queue.odd"), opcodes


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(dotted_name):
    module, _, last = dotted_name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def call(callee, *arguments):
    return callee + b"(" + b"".join(arguments) + b"tR"


def payloads(folder):
    """Pickles that create a file in `folder`, or would in a careless reader."""
    made = folder / "made"
    code, command = text(f"open({str(made)!r}, 'w').close()"), text(f"touch {made}")
    system = name("os.system")
    mapped = call(name("builtins.map"), system, b"(" + command + b"l")
    here = text("roberta_jax.interop.torch_file")
    working = {
        "reduce": call(system, command),
        "posix": call(name("posix.system"), command),
        "exec": call(name("builtins.exec"), code),
        "exec of Python 2": call(name("__builtin__.exec"), code),
        "eval": call(name("builtins.eval"), code),
        "inst": b"(" + command + b"ios\nsystem\n",
        "obj": b"(" + name("functools.partial") + system + b"o(" + command + b"tR",
        "newobj": name("functools.partial") + system + b"\x85\x81(" + command + b"tR",
        "newobj_ex": name("functools.partial") + system + b"\x85}\x92(" + command + b"tR",
        "stack_global": call(text("os") + text("system") + b"\x93", command),
        "dotted name": b"\x80\x04" + call(here + text("pathlib.os.system") + b"\x93", command),
        "getattr": call(call(name("builtins.getattr"), system, text("__call__")), command),
        "map": call(name("builtins.list"), mapped),
        "frozenset of map": call(name("builtins.frozenset"), mapped),
        "state of a partial": name("functools.partial")
        + name("builtins.len")
        + b"\x85R("
        + system
        + b"("
        + command
        + b"t}Ntb)R",
    }
    careless = {
        "parameter": call(call(name("torch._utils._rebuild_parameter"), system), command),
        "persistent id": b"(" + text("module") + system + b"tQ(" + command + b"tR",
        "attributes of a function": call(
            name("builtins.getattr"),
            name("torch._utils._rebuild_tensor_v2"),
            text("__globals__"),
        ),
        "codec": call(name("_codecs.encode"), text("a"), text("antigravity")),
        "type of a tensor": call(
            name("torch._tensor._rebuild_from_type_v2"), system, b"N", command + b"\x85", b"N"
        ),
    }
    return {key: value + b"." for key, value in {**working, **careless}.items()}, set(working)


PAYLOADS, WORKING = payloads(pathlib.Path("folder"))
# Wrong even for the stand-ins, and said to be.
REFUSED = {"frozenset of map", "codec", "type of a tensor"}


@pytest.mark.parametrize("attack", sorted(WORKING))
def test_the_attacks_work_on_pickle(tmp_path, attack):
    pickle.loads(payloads(tmp_path)[0][attack])
    assert (tmp_path / "made").exists()


@both_forms
@pytest.mark.parametrize("attack", sorted(PAYLOADS))
def test_nothing_that_a_file_names_is_run(tmp_path, path, form, attack):
    write_pickle(path, payloads(tmp_path)[0][attack], form)
    if attack in REFUSED:
        with pytest.raises(UserError, match=r"damaged|_rebuild_from_type_v2"):
            read_torch_file(path)
    else:
        assert type(read_torch_file(path)) is Opaque
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_imported(path):
    assert "antigravity" not in sys.modules
    write_pickle(path, name("antigravity.fly") + b".", "zip")
    assert read_torch_file(path).dotted_name == "antigravity.fly"
    assert "antigravity" not in sys.modules


def attributes():
    """Of every class and function that the pickles below could reach."""
    modules = [*vars(torch_file).values(), *vars(torch_pickle).values()]
    reachable = [*modules, collections.OrderedDict, argparse.Namespace, set]
    return [dict(vars(each)) for each in reachable if isinstance(each, (type, FunctionType))]


@pytest.mark.parametrize(
    "target",
    [
        name("collections.OrderedDict"),
        name("argparse.Namespace"),
        name("torch._utils._rebuild_tensor_v2"),
        name("torch.Size"),
        name("torch.FloatStorage"),
        name("builtins.set"),
        name("os.system"),
        call(name("collections.OrderedDict")),
        call(name("argparse.Namespace")),
        call(name("os.system")),
    ],
)
def test_a_state_changes_no_class(path, target):
    before = attributes()
    state = b"}" + b"".join(text(key) + text("x") + b"s" for key in ("__call__", "items", "new"))
    for pickled in (target + state + b"b.", target + b"N" + state + b"\x86b."):
        write_pickle(path, pickled, "zip")
        # Refused or without effect, either is good.
        with contextlib.suppress(UserError):
            read_torch_file(path)
        assert attributes() == before
    value, arguments, _ = checkpoint()
    assert_same(read_torch_file(write(path, value, "zip"))["args"], arguments)


@both_forms
@pytest.mark.parametrize("state", [{"offset": 9}, (None, {"offset": 9}), (0, 1)])
@pytest.mark.parametrize("target", ["tensor", "storage"])
def test_a_tensor_takes_no_state(path, form, state, target):
    made = tensor(ROWS)
    if target == "tensor":
        made.state = state
    else:
        storage = Named("torch._utils", "_rebuild_parameter", (made.arguments[0],), state)
        made.arguments = (storage, *made.arguments[1:])
    with pytest.raises(UserError, match="damaged"):
        read_torch_file(write(path, made, form))


@both_forms
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (2, 4), (3, 1)),
        (1, (2, 3), (3, 1)),
        (0, (7,), (1,)),
        (6, (), ()),
        (7, (0,), (1,)),
        (0, (2,), (6,)),
        (0, (2,), (2**62,)),
        (0, (2,), (2**64 - 1,)),
        (0, (2**61,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (1,) * 99, (1,) * 99),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2, 3), (1,)),
        (0, (2.0,), (1,)),
        (0, "ab", "ab"),
        (0, None, None),
        pytest.param(10**5000, (1,), (1,), id="too long to print"),
    ],
)
def test_tensors_outside_of_their_storage(path, form, offset, shape, strides):
    value = tensor(ROWS, offset=offset)
    value.arguments = (value.arguments[0], offset, shape, strides, *value.arguments[4:])
    with pytest.raises(UserError, match="tensor|iterable"):
        read_torch_file(write(path, value, form))


@pytest.mark.parametrize("view", [("8", 0, 7), ("8", -1, 2), ("8", 5, 2), ("8", 0, -1), ("8",)])
def test_views_outside_of_their_storage(path, view):
    storage = Storage("FloatStorage", ROWS.tobytes(), 6, view=view)
    with pytest.raises(UserError, match="storage 0"):
        read_torch_file(write(path, rebuilt(storage, 0, (0,), (1,)), "legacy"))


@both_forms
@pytest.mark.parametrize("count", [5, 7, 2**40, 2**64])
def test_storages_of_another_size(path, form, count):
    value = rebuilt(Storage("FloatStorage", ROWS.tobytes(), count), 0, (2, 3), (3, 1))
    with pytest.raises(UserError, match="truncated or damaged"):
        read_torch_file(write(path, value, form))


@both_forms
def test_a_storage_of_two_sizes(path, form):
    storages = [Storage("FloatStorage", ROWS.tobytes(), count) for count in (6, 5)]
    with pytest.raises(UserError, match="two sizes of the storage 0"):
        read_torch_file(write(path, storages, form))


def test_a_legacy_file_that_contradicts_itself(path):
    content = write(path, tensor(ROWS), "legacy").read_bytes()
    count = struct.pack("<q", 6)
    path.write_bytes(content.replace(count + ROWS.tobytes(), bytes(8) + ROWS.tobytes()))
    with pytest.raises(UserError, match="the storage 0 does not have 24 bytes"):
        read_torch_file(path)
    path.write_bytes(content.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2), 1))
    with pytest.raises(UserError, match="version 1002"):
        read_torch_file(path)


@pytest.mark.parametrize("field", ["size", "offset"])
def test_a_zip_member_outside_of_the_file(path, field):
    count = 2**20
    write(path, rebuilt(Storage("FloatStorage", b"", count), 0, (count,), (1,)), "zip")
    content = bytearray(path.read_bytes())
    # The entry of the directory ends with this name, 46 bytes after its start.
    entry = content.rindex(b"model/data/0") - 46
    if field == "size":
        struct.pack_into("<II", content, entry + 20, 4 * count, 4 * count)
    else:
        struct.pack_into("<I", content, entry + 42, len(content) - 9)
    path.write_bytes(content)
    with pytest.raises(UserError, match="data/0 is not where the directory says"):
        read_torch_file(path)


@both_forms
@pytest.mark.parametrize(
    ("value", "match"),
    [
        (Named("torch._utils", "_rebuild_sparse_tensor", (1, 2)), "_rebuild_sparse_tensor"),
        (Named("torch._utils", "_rebuild_qtensor", (1, 2)), "_rebuild_qtensor"),
        (Named("torch._utils", "_rebuild_wrapper_subclass", ()), "_rebuild_wrapper_subclass"),
        (tensor(np.zeros(3, "u1"), "QUInt8Storage"), "torch.QUInt8Storage"),
        (rebuilt(Storage("FloatStorage", b"", 0), 0, (0,), (1,), {"conj": True}), "conj"),
    ],
)
def test_other_kinds_of_tensors(path, form, value, match):
    with pytest.raises(UserError, match=match + "(.|\n)*save it again"):
        read_torch_file(write(path, value, form))


def test_a_tensor_is_no_key(path):
    with pytest.raises(UserError, match="a tensor as a key"):
        read_torch_file(write(path, {tensor(ROWS): 1}, "zip"))


def test_nesting_has_a_limit(path):
    write_pickle(path, b"]" * 100_000 + b"a" * 99_999 + b".", "zip")
    with pytest.raises(UserError, match="recursion"):
        read_torch_file(path)


def test_big_endian_files(path):
    value = tensor(ROWS)
    write(path, value, "zip", byteorder="big")
    with pytest.raises(UserError, match="big-endian"):
        read_torch_file(path)
    write(path, value, "legacy", system={**SYSTEM, "little_endian": False})
    with pytest.raises(UserError, match="big-endian"):
        read_torch_file(path)


def test_compressed_members(path):
    write(path, tensor(ROWS), "zip", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"compressed.*zip -0"):
        read_torch_file(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"text\n", b"\x80\x02K\x01.", bytes(999)])
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path.name}.*(does not begin like one|empty)"):
        read_torch_file(path)


@pytest.mark.parametrize("member", ["readme.txt", "a/b/data.pkl", "data.pkl"])
def test_other_zip_files(path, member):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "x")
    with pytest.raises(UserError, match="a zip archive of something else"):
        read_torch_file(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"missing\.pt.*No such file"):
        read_torch_file(tmp_path / "missing.pt")
    with pytest.raises(UserError, match="directory"):
        read_torch_file(tmp_path)


def test_a_missing_storage(path):
    pickler = TorchPickler(buffer := io.BytesIO(), "zip")
    pickler.dump(tensor(ROWS))
    with pytest.raises(UserError, match="data/0 is missing"):
        read_torch_file(write_pickle(path, buffer.getvalue(), "zip"))
    with pytest.raises(UserError, match="list of storages"):
        read_torch_file(write_pickle(path, buffer.getvalue(), "legacy"))


def test_a_storage_is_not_read_before_its_array_is_used(path):
    count = 2**38  # A terabyte that is not there: the file has a hole.
    value = rebuilt(Storage("FloatStorage", b"", count), 0, (count,), (1,))
    write(path, value, "legacy")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size + 4 * count)
        file.seek(size + 4 * (count - 1))
        file.write(struct.pack("<f", 7))
    array = read_torch_file(path)
    assert array.shape == (count,)
    assert (array[0], array[-1]) == (0, 7)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    """Path, bytes and content of a checkpoint in each form."""
    folder, files = tmp_path_factory.mktemp("whole"), {}
    for form in FORMS:
        path = write(folder / f"{form}.pt", checkpoint()[0], form)
        files[form] = path, path.read_bytes(), read_torch_file(path)["model"]
    return files


@both_forms
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=200)
def test_a_truncated_file_is_an_error(whole_files, form, data):
    path, content, _ = whole_files[form]
    cut = path.with_suffix(".cut")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(UserError, match=re.escape(str(cut))):
        read_torch_file(cut)


@both_forms
def test_bytes_after_the_end_are_harmless(whole_files, form):
    path, content, expected = whole_files[form]
    longer = path.with_suffix(".longer")
    longer.write_bytes(content + bytes(100))
    assert_same(read_torch_file(longer)["model"], expected)


# ---- The same with torch.


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def saved(torch, path, value, form):
    torch.save(value, path, _use_new_zipfile_serialization=form == "zip")
    return path


def as_numpy(torch, value):
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if value.dtype == torch.bfloat16:
        return value.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()


@pytest.mark.parity
@both_forms
def test_tensors_of_torch(torch, path, form):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "contiguous": base,
        "transposed": base.T,
        "slice": base[1:3, ::2],
        "expanded": base[0].expand(3, 6),
        "diagonal": base.diagonal(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "empty slice": base[4:],
        "parameter": torch.nn.Parameter(base[2:]),
        "permuted": torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1),
        "integers": torch.tensor([[1, -2]], dtype=torch.int32),
        "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "half": torch.tensor([1.5, float("inf")], dtype=torch.float16),
        "double": torch.tensor([[0.1]], dtype=torch.float64),
        "bfloat16": torch.tensor([[1.5, -3], [0.1, 2]], dtype=torch.bfloat16).T,
        "complex": torch.tensor([1 + 2j]),
        "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    read = read_torch_file(saved(torch, path, tensors, form))
    assert_same(read, {key: as_numpy(torch, value) for key, value in tensors.items()})
    assert np.shares_memory(read["contiguous"], read["transposed"])


@pytest.mark.parity
@both_forms
def test_a_module_of_torch(torch, path, form):
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    module.register_buffer("position_ids", torch.arange(5).expand((1, -1)))
    state = module.state_dict()
    assert state._metadata
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    value = {
        "args": argparse.Namespace(arch="roberta_base"),
        "model": state,
        "last_optimizer_state": optimizer.state_dict(),
        "size": state["0.weight"].shape,
        "dtype": torch.float16,
        "device": torch.device("cpu"),
    }
    read = read_torch_file(saved(torch, path, value, form))
    assert_same(read["model"], {key: as_numpy(torch, item) for key, item in state.items()})
    assert_same(read["args"], {"arch": "roberta_base"})
    assert_same(read["size"], (3, 4))
    assert (read["dtype"].dotted_name, read["device"].dotted_name) == (
        "torch.float16",
        "torch.device",
    )
    moment = optimizer.state_dict()["state"][0]["exp_avg"]
    assert_same(read["last_optimizer_state"]["state"][0]["exp_avg"], as_numpy(torch, moment))


@pytest.mark.parity
@both_forms
def test_what_torch_cannot_give_densely(torch, path, form):
    with pytest.raises(UserError, match="_rebuild_sparse_tensor"):
        read_torch_file(saved(torch, path, torch.eye(2).to_sparse(), form))


@pytest.mark.parity
def test_a_whole_module_of_torch_is_opaque(torch, path):
    read = read_torch_file(saved(torch, path, torch.nn.Linear(2, 2), "zip"))
    assert read.dotted_name == "torch.nn.modules.linear.Linear"
