import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from roberta_jax.data.corpus import Document, read_documents
from roberta_jax.data.inputs import Span, find_files, overlap
from roberta_jax.data.parts import plan_parts
from roberta_jax.errors import UserError

RECORDS = {"train": 1000, "validation": 10}


class StoredTexts(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "id": np.int64}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, download_manager):
        return {name: self._generate_examples(name, count) for name, count in RECORDS.items()}

    def _generate_examples(self, name, count):
        for i in range(count):
            text = "" if i == 4 else f"{name} {i}.\n Zwei é."
            yield i, {"text": text if i != 7 else text.encode() + b"\xff", "id": i}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    StoredTexts(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def found_by_name(data_dir, monkeypatch):
    monkeypatch.setattr(tfds.core.utils.file_utils.constants, "DATA_DIR", str(data_dir))


def read(name, **options):
    return list(read_documents(find_files([name]), on_bad_text="replace", **options))


def test_records_are_documents(data_dir):
    documents = read("tfds:stored_texts:train")
    assert len(documents) == 999  # One has no text.
    assert documents[3] == Document(["train 3.", "Zwei é."], "tfds:stored_texts:train, record 3")
    assert documents[4].source.endswith("record 5")
    by_folder = read(f"tfds:{data_dir}/stored_texts/1.0.0:train")
    assert [d.sentences for d in by_folder] == [d.sentences for d in documents]
    assert [d.sentences for d in read("tfds:stored_texts:1.0.0:train")] == [
        d.sentences for d in documents
    ]


def test_slices_and_sums_of_splits():
    sliced = read("tfds:stored_texts:train[10%:20%]+validation")
    assert [d.sentences[0] for d in sliced[:2]] == ["train 100.", "train 101."]
    assert len(sliced) == 109
    assert sliced[-1].sentences[0] == "validation 9."


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_spans_share_the_records(count):
    (file,) = find_files(["tfds:stored_texts:train"])
    borders = [file.bytes * i // count for i in range(count + 1)]
    spans = [Span(file, a, b) for a, b in zip(borders, borders[1:], strict=False)]
    documents = list(read_documents(spans, on_bad_text="replace"))
    assert documents == read("tfds:stored_texts:train")


def test_a_split_is_divided_into_parts(monkeypatch):
    monkeypatch.setattr("roberta_jax.data.parts.PART_BYTES", 1 << 12)
    files = find_files(["tfds:stored_texts:train"])
    # Even where a file of plain text is one document.
    parts = plan_parts({"train": files}, divide_plain_text=False)
    assert len(parts) > 5


def test_a_split_is_described_by_size_and_time(data_dir):
    (file,) = find_files(["tfds:stored_texts:train[:50%]"])
    (whole,) = find_files(["tfds:stored_texts:train"])
    assert file.is_tfds
    assert not (file.is_compressed or file.is_parquet or file.is_json_lines or file.is_plain_text)
    assert 20_000 < file.bytes == pytest.approx(whole.bytes / 2, rel=0.02)
    path = next((data_dir / "stored_texts/1.0.0").glob("*train*"))
    assert file.modified_ns // 10**9 == path.stat().st_mtime_ns // 10**9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tfds:nonesuch/x:train", r"nonesuch/x is not in .*download_and_prepare"),
        ("tfds:stored_texts/other:train", r"stored_texts/other is not in"),
        ("tfds:stored_texts:test", r"has no split 'test' .*; it has train, validation"),
        ("tfds:stored_texts:train[:x%]", r"has no split"),
        ("tfds:stored_texts:train[5:5]", r"no split 'train\[5:5\]' with records"),
        ("tfds:my-data:train", r"my-data cannot be opened"),
        ("tfds:stored_texts", r"must be tfds:NAME/CONFIG:SPLIT"),
        ("tfds:/nowhere:train", r"/nowhere is no TFDS dataset"),
    ],
)
def test_what_is_not_there_is_told(name, message):
    with pytest.raises(UserError, match=message):
        find_files([name])


def test_features_without_text_are_told():
    with pytest.raises(UserError, match=r"no feature 'body'; it has id, text. --text_field"):
        read("tfds:stored_texts:train", text_field="body")
    with pytest.raises(UserError, match=r"'id' holds no text"):
        read("tfds:stored_texts:train", text_field="id")


def test_bad_text_names_its_record():
    with pytest.raises(UserError, match="not valid UTF-8 at record 7"):
        list(read_documents(find_files(["tfds:stored_texts:train"])))


def test_a_damaged_file_names_a_record(data_dir, tmp_path):
    folder = tmp_path / "stored_texts" / "1.0.0"
    shutil.copytree(data_dir / "stored_texts" / "1.0.0", folder)
    (path,) = folder.glob("*train*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged or cut off at record [\d,]+"):
        read(f"tfds:{folder}:train")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged or cut off"):
        read(f"tfds:{folder}:train")


def test_other_formats_are_refused_with_the_way_to_prepare(data_dir, tmp_path):
    folder = tmp_path / "stored_texts" / "1.0.0"
    shutil.copytree(data_dir / "stored_texts" / "1.0.0", folder)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"stored as tfrecord.*file_format=.array_record"):
        read(f"tfds:{folder}:train")


def copied(data_dir, tmp_path):
    folder = tmp_path / "stored_texts" / "1.0.0"
    shutil.copytree(data_dir / "stored_texts" / "1.0.0", folder)
    return folder


def test_a_size_that_was_never_noted_loses_no_record(data_dir, tmp_path):
    folder = copied(data_dir, tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["numBytes"] = "0"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert len(read(f"tfds:{folder}:train")) == 999
    assert find_files([f"tfds:{folder}:train"])[0].bytes >= 1000


def test_a_folder_may_be_relative(data_dir, monkeypatch):
    monkeypatch.chdir(data_dir)
    assert len(read("tfds:stored_texts/1.0.0:validation")) == 9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("features.json", None),
        ("features.json", "{"),
        ("dataset_info.json", "{}"),
        ("stored_texts-train.array_record-00000-of-00001", None),
    ],
)
def test_a_dataset_that_is_not_whole_is_told(data_dir, tmp_path, monkeypatch, name, content):
    folder = copied(data_dir, tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    monkeypatch.setattr(tfds.core.utils.file_utils.constants, "DATA_DIR", str(tmp_path))
    for dataset in (folder, "stored_texts"):
        with pytest.raises(UserError, match=r"cannot be (read|opened)|not whole"):
            read(f"tfds:{dataset}:train")


def test_shares_of_a_split_overlap_as_their_records_do(data_dir):
    def shared(one, other):
        return overlap(find_files([f"tfds:{one}"]), find_files([f"tfds:{other}"]))

    name = "tfds:stored_texts:train[:10%]"
    assert shared("stored_texts:train", "stored_texts:train[:10%]") == [name]
    assert shared(f"{data_dir}/stored_texts/1.0.0:train", "stored_texts:train[:10%]") == [name]
    assert not shared("stored_texts:train[10%:]", "stored_texts:train[:10%]")
    assert not shared("stored_texts:train", "stored_texts:validation")
