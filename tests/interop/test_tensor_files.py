"""Safetensors: what is written is what the library reads, what is damaged is said."""

import json
import os

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from roberta_jax.errors import UserError
from roberta_jax.interop.tensor_files import open_tensors, write_tensors
from tests.interop import foreign

DTYPES = [np.float32, np.float16, np.float64, ml_dtypes.bfloat16]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name != "__metadata__"
)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def tensors_at(path):
    return {name: read() for name, read in open_tensors(path).items()}


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype and left[name].shape == right[name].shape
        assert left[name].tobytes() == right[name].tobytes(), name


# ---- Whole files --------------------------------------------------------------------------------


@hypothesis.given(
    shapes=st.dictionaries(NAMES, SHAPES, max_size=6),
    dtype=st.sampled_from(DTYPES),
    order=st.randoms(use_true_random=False),
)
def test_what_is_written_is_what_the_library_reads(tmp_path_factory, shapes, dtype, order):
    folder, dtype = tmp_path_factory.mktemp("file"), np.dtype(dtype)
    generator = np.random.Generator(np.random.Philox(key=len(shapes)))
    tensors = {
        name: generator.normal(size=shape[::-1]).astype(np.float32).T
        for name, shape in shapes.items()
    }
    names = list(tensors)
    order.shuffle(names)
    path = folder / "model.safetensors"
    write_tensors(path, shapes, ((name, tensors[name]) for name in names), dtype=dtype)
    wanted = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    same(load_file(path), wanted)
    same(tensors_at(folder), wanted)
    header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    assert header_bytes % 8 == 0  # Then the data can be mapped as numbers.
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses a file without it.


def test_a_tensor_that_was_not_announced_or_not_given_is_a_bug(tmp_path):
    shapes, path = {"a": (2,)}, tmp_path / "model.safetensors"
    for given in ([], [("a", np.zeros(2)), ("a", np.zeros(2))], [("b", np.zeros(2))]):
        with pytest.raises((AssertionError, KeyError)):
            write_tensors(path, shapes, iter(given), dtype=np.dtype(np.float32))
    with pytest.raises(AssertionError):
        write_tensors(path, shapes, iter([("a", np.zeros(3))]), dtype=np.dtype(np.float32))


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    save_file({"a": np.arange(3.0), "b": np.zeros(0)}, tmp_path / "model.safetensors")
    tensors = open_tensors(tmp_path)
    assert callable(tensors["a"]) and tensors["a"]().tolist() == [0, 1, 2]
    assert tensors["b"]().shape == (0,)


@hypothesis.given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_an_error(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    path = folder / "model.safetensors"
    write_tensors(
        path,
        {"a": (3, 4), "b": (5,)},
        iter([("a", np.ones((3, 4))), ("b", np.ones(5))]),
        dtype=np.dtype(np.float32),
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(UserError, match=r"model\.safetensors is no whole safetensors file.*Copy"):
        open_tensors(folder)


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 64, b"PK\x03\x04" * 20, (8).to_bytes(8, "little") + b"[1,2,3] ", b"{}"],
    ids=["noise", "zip", "no object", "text"],
)
def test_another_file_is_an_error(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is no whole safetensors file"):
        open_tensors(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(UserError, match="is no whole safetensors file"):
        open_tensors(tmp_path)


def test_a_pointer_of_git_lfs_is_recognized(tmp_path):
    (tmp_path / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 498818054\n"
    )
    with pytest.raises(UserError, match="is a pointer of Git LFS.*git lfs pull"):
        open_tensors(tmp_path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(3)}, path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UserError, match="Permission denied"):
        open_tensors(tmp_path)


def test_a_folder_without_weights_says_what_is_there(tmp_path):
    with pytest.raises(UserError, match="has no weights: neither model.safetensors nor") as error:
        open_tensors(tmp_path)
    assert "pytorch_model" not in str(error.value)
    (tmp_path / "pytorch_model-00001-of-00002.bin").touch()
    with pytest.raises(UserError, match="has pytorch_model-00001-of-00002.bin; open it with"):
        open_tensors(tmp_path)


# ---- Shards -------------------------------------------------------------------------------------


def some_tensors():
    return {f"tensor{i}": np.full((i, 2), i, np.float32) for i in range(1, 8)}


def test_shards(tmp_path):
    foreign.write_shards(tmp_path, some_tensors())
    same(tensors_at(tmp_path), some_tensors())


def test_a_shard_may_be_a_link(tmp_path):
    """As in the cache of huggingface_hub."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    foreign.write_shards(tmp_path / "blobs", some_tensors())
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    same(tensors_at(tmp_path / "snapshot"), some_tensors())


def test_the_index_decides_where_several_files_have_a_tensor(tmp_path):
    for number in (1, 2, 3):
        shard = {"a": np.full(2, number, np.float32), f"own{number}": np.zeros(1)}
        save_file(shard, tmp_path / f"{number}.safetensors")
    others = {f"own{number}": f"{number}.safetensors" for number in (1, 2, 3)}
    for number in (1, 2, 3):
        foreign.write_index(tmp_path, {"a": f"{number}.safetensors", **others})
        assert tensors_at(tmp_path)["a"].tolist() == [number, number]


def test_tensors_that_the_index_names_and_no_file_has(tmp_path):
    weight_map = foreign.write_shards(tmp_path, some_tensors())
    lost = {"lost1": weight_map["tensor1"], "lost2": weight_map["tensor2"]}
    # Another file has it, but not the one that the index names.
    lost["tensor1"] = weight_map["tensor2"]
    foreign.write_index(tmp_path, {**weight_map, **lost})
    with pytest.raises(UserError, match="names 3 tensors that its files do not hold.* lost1. Copy"):
        open_tensors(tmp_path)


def test_a_tensor_that_the_index_does_not_name_is_not_lost(tmp_path):
    weight_map = foreign.write_shards(tmp_path, some_tensors())
    del weight_map["tensor3"]
    foreign.write_index(tmp_path, weight_map)
    assert "tensor3" in open_tensors(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    foreign.write_shards(tmp_path, some_tensors())
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00003\.safetensors is missing; the index"):
        open_tensors(tmp_path)


def test_a_truncated_shard_is_named(tmp_path):
    foreign.write_shards(tmp_path, some_tensors())
    path = tmp_path / "model-00003-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model-00003-of-00003\.safetensors is no whole"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "..", "a/../../x", "sub/x", ".", ""])
def test_an_index_names_only_files_beside_it(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": np.zeros(1)}, tmp_path / "x")
    foreign.write_index(folder, {"a": name})
    with pytest.raises(UserError, match="names a file outside its folder"):
        open_tensors(folder)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "3", "null", '{"metadata": {}}', '{"weight_map": null}'),
        *('{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": null}}'),
        *('{"weight_map": {"a": ["b"]}}', '{"weight_map": {"a": {"b": 1}}}'),
    ],
)
def test_a_damaged_index_is_an_error(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"The index .*index\.json is damaged .*Copy it again"):
        open_tensors(tmp_path)


def test_an_index_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="is damaged"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", json.dumps({"a": 1}).encode()])
def test_a_shard_that_is_something_else_is_an_error(tmp_path, content):
    foreign.write_index(tmp_path, {"a": "x.safetensors"})
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.safetensors is no whole safetensors file"):
        open_tensors(tmp_path)
