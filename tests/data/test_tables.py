import gzip
import json
import lzma

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from roberta_jax.data.compression import zstd
from roberta_jax.data.json_file import read_json
from roberta_jax.data.tables import read_table
from roberta_jax.errors import UserError

ROWS = [
    {"text": 'a "b', "label": "x"},
    {"text": "é\u2028", "label": ""},
    {"text": "c", "label": "y"},
]
TSV = b'text\tlabel\na "b\tx\n\xc3\xa9\xe2\x80\xa8\t\nc\ty\n'
CSV = 'text,label\n"a ""b",x\né\u2028,\nc,y\n'.encode()
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}


def stored(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


def records(path, **options):
    return [record for _, record in read_table(path, **options).rows]


@pytest.mark.parametrize("packing", PACK)
def test_all_kinds_of_files_give_the_same_rows(tmp_path, packing):
    json_lines = "\n\n".join(json.dumps(row) for row in ROWS).encode()
    contents = {".tsv": TSV, ".csv": CSV, ".jsonl": json_lines, ".json": json_lines}
    for suffix, content in contents.items():
        for variant in (content, b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n")):
            path = stored(tmp_path, f"t{suffix}{packing}", PACK[packing](variant))
            assert read_table(path).columns == ("text", "label")
            assert records(path) == ROWS, (suffix, variant)
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    assert records(str(tmp_path / "t.parquet")) == ROWS
    assert read_table(str(tmp_path / "t.parquet")).columns == ("text", "label")


def test_places_name_file_and_line(tmp_path):
    path = stored(tmp_path, "t.tsv", TSV)
    assert [place for place, _ in read_table(path).rows] == [f"{path}, line {n}" for n in (2, 3, 4)]
    path = stored(tmp_path, "t.csv", b'text,label\n"a\nb",x\nc,y\n')
    assert [place[-6:] for place, _ in read_table(path).rows] == ["line 3", "line 4"]
    assert records(path)[0]["text"] == "a\nb"
    path = stored(tmp_path, "t.jsonl", b'\n{"a": 1}\n\n{"a": [null, "b"]}')
    assert list(read_table(path).rows) == [
        (f"{path}, line 2", {"a": 1}),
        (f"{path}, line 4", {"a": [None, "b"]}),
    ]
    parquet.write_table(pa.table({"a": list(range(600))}), tmp_path / "t.parquet")
    places = [place for place, _ in read_table(str(tmp_path / "t.parquet")).rows]
    assert places[-1].endswith("t.parquet, row 600") and len(set(places)) == 600


CELLS = st.text(st.characters(exclude_characters="\t\r\n", codec="utf-8"), min_size=1)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1))
def test_any_text_without_tabs_comes_back(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in cells), encoding="utf-8", newline="")
    rows = records(str(path), columns=["a", "b"])
    wanted = [{"a": a, "b": b} for a, b in cells]
    wanted[0]["a"] = wanted[0]["a"].removeprefix("\ufeff")
    assert rows == wanted


def test_a_table_without_a_header_gets_its_names(tmp_path):
    path = stored(tmp_path, "t.tsv", b"a\tb\nc\td\n")
    assert records(path, columns=("x", "y")) == [{"x": "a", "y": "b"}, {"x": "c", "y": "d"}]
    # Of one column, a line without anything is an empty text.
    path = stored(tmp_path, "t.tsv", b"a\n\nb\n")
    assert records(path, columns=["x"]) == [{"x": "a"}, {"x": ""}, {"x": "b"}]


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_lines_of_another_number_of_fields_are_refused_or_collected(tmp_path, suffix):
    content = "a\tb\n1\t2\n3\n4\t5\t6\n7\t8\n\n"
    path = stored(tmp_path, f"t{suffix}", content.replace("\t", "\t,"[suffix == ".csv"]).encode())
    with pytest.raises(UserError, match=r"line 3 has 1 field, and the table has 2 columns: 'a'"):
        records(path)
    ragged = []
    assert records(path, ragged=ragged) == [{"a": "1", "b": "2"}, {"a": "7", "b": "8"}]
    assert ragged == [3, 4]


def test_long_fields_are_no_trouble(tmp_path):
    long = "x" * 200_000
    assert records(stored(tmp_path, "t.csv", f"a,b\n{long},1\n".encode()))[0]["a"] == long


def test_columns_that_are_missing_are_told_with_those_that_are_there(tmp_path):
    table = read_table(stored(tmp_path, "t.tsv", TSV))
    table.check(["text", "label"], "")
    message = r"no column 'sentence' and no column 'x'; it has 'text', 'label'. Say --text."
    with pytest.raises(UserError, match=message):
        table.check(["text", "sentence", "x"], "Say --text.")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"a", "unknown type; its name must end in .tsv, .csv"),
        ("t.parquet.gz", b"a", "unknown type"),
        ("t.tsv", b"", "is empty; its first line must name"),
        ("t.csv", b"", "is empty; its first line must name"),
        ("t.jsonl", b"\n", "is empty; every line"),
        ("t.tsv", b"a\ta\n", "name the columns, each once"),
        ("t.tsv", b"a\nb\nc\xff\n", r"t.tsv, line 3 is not valid UTF-8 \(byte 1 of the line\)"),
        ("t.tsv.gz", gzip.compress(TSV, mtime=0)[:-9], "damaged or cut off"),
        ("t.tsv.gz", TSV, "damaged or cut off"),
        ("t.tsv.xz", TSV, "damaged or cut off"),
        ("t.csv", b'a,b\nx,"y" z\n', "line 2 is no CSV.*doubled"),
        ("t.csv", b'a,b\nx,"y\n', "line 2 is no CSV"),
        ("t.jsonl", b'{"a": 1}\n{"a":', "line 2 is not JSON"),
        ("t.jsonl", b'{"a": 1}\n[1]', "line 2 is a JSON list"),
        ("t.jsonl", b'{"a": "\\ud800"}', "line 1 is not JSON.*surrogates"),
        ("t.parquet", b"PAR1", "damaged or cut off"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path, name, content, message):
    path = stored(tmp_path, name, content)
    with pytest.raises(UserError, match=message):
        records(path)


def test_files_that_are_not_there_are_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_table(str(tmp_path / "t.tsv"))
    (tmp_path / "t.tsv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        read_table(str(tmp_path / "t.tsv"))


def test_bad_text_and_damage_of_parquet_name_the_row(tmp_path):
    texts = pa.array([b"a"] * 300 + [b"\xff"], pa.binary()).view(pa.utf8())
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"a": texts}), path)
    with pytest.raises(UserError, match="row 301 holds text that is not valid UTF-8"):
        records(str(path))
    parquet.write_table(pa.table({"a": np.arange(5000)}), path, compression="zstd")
    content = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\0" * 3000 + content[3004:])
    with pytest.raises(UserError, match="damaged or cut off"):
        records(str(path))


class Labelled(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["no", "yes"])
        features = {
            "text": tfds.features.Text(),
            "label": label,
            "score": np.float32,
            "words": tfds.features.Sequence(tfds.features.Text()),
            "tags": tfds.features.Sequence(label),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, dict(text="é", label="yes", score=0.5, words=["é", "b"], tags=["no", "yes"])
        yield 1, dict(text="", label=-1, score=2, words=[], tags=[])
        yield 2, dict(text=b"\xff", label=0, score=0, words=[], tags=[])


def test_tfds_gives_texts_and_names_of_classes(tmp_path):
    Labelled(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    table = read_table(f"tfds:{tmp_path}/labelled/1.0.0:train")
    assert set(table.columns) == {"text", "label", "score", "words", "tags"}
    assert next(table.rows) == (
        f"tfds:{tmp_path}/labelled/1.0.0:train, record 0",
        {"text": "é", "label": "yes", "score": 0.5, "words": ["é", "b"], "tags": ["no", "yes"]},
    )
    assert next(table.rows)[1] == {"text": "", "label": None, "score": 2, "words": [], "tags": []}
    with pytest.raises(UserError, match="record 2 holds text that is not valid UTF-8"):
        next(table.rows)


@pytest.mark.parametrize("packing", PACK)
def test_a_json_file_is_read_whole(tmp_path, packing):
    content = b'\xef\xbb\xbf{"a":\n "\xc3\xa9\\ud835\\udd38"}\n'
    assert read_json(stored(tmp_path, f"a.json{packing}", PACK[packing](content))) == {"a": "é𝔸"}
