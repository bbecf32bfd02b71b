import csv
import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from pyarrow import parquet

from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import TextExample, WordsExample
from roberta_jax.tasks.user_table import Columns, load_table, read_examples

COLUMNS = Columns(text="body", label="kind")
WORDS = Columns(text="words", label="tags")


def write(path, records):
    """A table of any kind, by the end of its name."""
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(record) for record in records))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".tsv":
        lines = [list(records[0]), *(list(map(str, record.values())) for record in records)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, records[0])
            writer.writeheader()
            writer.writerows(records)
    return str(path)


def rows(*labels, column="kind"):
    return [{"body": f"Text {i}, so.", column: label} for i, label in enumerate(labels)]


def load(tmp_path, records, kind="classification", columns=COLUMNS, suffix=".jsonl", **options):
    options = options or {"dev_fraction": 0.5}
    return load_table(kind, columns, train=write(tmp_path / f"mine{suffix}", records), **options)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_task(tmp_path, suffix):
    dev = write(tmp_path / f"d{suffix}", rows("spam"))
    task, loaded = load(tmp_path, rows("spam", "ham", "spam"), suffix=suffix, dev=dev, test=dev)
    assert (task.name, task.title, task.kind) == ("table", "mine", "classification")
    assert (task.labels, task.dev, task.test) == (("ham", "spam"), ("dev",), ("test",))
    assert loaded.splits["train"] == [
        TextExample(str(i), (f"Text {i}, so.",), label) for i, label in enumerate([1, 0, 1])
    ]
    assert loaded.splits["dev"] == [TextExample("0", ("Text 0, so.",), 1)]
    assert loaded.splits["test"] == [TextExample("0", ("Text 0, so.",), None)]
    assert not loaded.notes


@pytest.mark.parametrize(
    ("stored", "labels"),
    [
        (["10", "9", "1.5"], ("1.5", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([3, 20, 1], ("1", "3", "20")),
        ([3.0, 20.0, 0.5], ("0.5", "3", "20")),
        ([True, False], ("false", "true")),
    ],
)
def test_labels_are_those_of_train_in_order(tmp_path, stored, labels):
    task, loaded = load(tmp_path, rows(*stored))
    assert task.labels == labels
    examples = sorted(loaded.splits["train"] + loaded.splits["dev"], key=lambda e: int(e.id))
    named = [task.labels[example.label] for example in examples]
    assert [str(stored_label).lower().removesuffix(".0") for stored_label in stored] == named


def test_labels_may_be_given(tmp_path):
    task, loaded = load(tmp_path, rows("b", "a"), labels=["b", "c", "a"], dev_fraction=0.5)
    assert task.labels == ("b", "c", "a")
    with pytest.raises(UserError, match=r"'a', which is none of mine's: b, c\. Correct"):
        load(tmp_path, rows("b", "a"), labels=["b", "c"], dev_fraction=0.5)


def test_a_label_in_dev_that_train_has_not_names_its_row(tmp_path):
    dev = write(tmp_path / "dev.tsv", rows("a", "b", "neither"))
    with pytest.raises(UserError, match=r"dev.tsv, line 4 has the label 'neither', .*: a, b\."):
        load(tmp_path, rows("a", "b"), dev=dev)


def test_a_pair_has_two_columns(tmp_path):
    records = [{"one": "a", "two": "b", "kind": str(i)} for i in range(2)]
    columns = Columns(text="one", second_text="two", label="kind")
    _, loaded = load(tmp_path, records, columns=columns)
    assert loaded.splits["train"][0].texts == ("a", "b")


def test_rows_are_set_aside_by_number_alone(tmp_path):
    _, loaded = load(tmp_path, rows(*"ab" * 100), dev_fraction=0.1)
    _, again = load(
        tmp_path, [{**row, "body": "other"} for row in rows(*"ba" * 100)], dev_fraction=0.1
    )
    numbers = {name: [e.id for e in split] for name, split in loaded.splits.items()}
    assert numbers == {name: [e.id for e in split] for name, split in again.splits.items()}
    assert len(numbers["dev"]) == 20
    assert sorted(map(int, numbers["train"] + numbers["dev"])) == list(range(200))
    assert numbers["dev"] != list(map(str, range(20)))
    assert "mine.jsonl: 20 of 200 rows were set aside as dev data." in loaded.notes[0]
    _, more = load(tmp_path, rows(*"ab" * 100), dev_fraction=0.2)
    assert {e.id for e in more.splits["dev"]} > set(numbers["dev"])
    for fraction in (0.0001, 0.9999):
        _, loaded = load(tmp_path, rows(*"abab"), dev_fraction=fraction)
        assert min(map(len, loaded.splits.values())) == 1


def test_numbers_are_scaled_by_mean_and_deviation_of_train(tmp_path):
    numbers = [1.0, "2.5", 7, -3]
    dev = write(tmp_path / "dev.jsonl", rows(100.0))
    task, loaded = load(tmp_path, rows(*numbers), kind="regression", dev=dev)
    values = np.array(numbers, float)
    assert (task.shift, task.scale) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert [example.label for example in loaded.splits["train"]] == values.tolist()
    assert loaded.splits["dev"][0].label == 100.0
    assert task.labels == () and task.num_outputs == 1
    task, _ = load(tmp_path, rows(4, 4), kind="regression", dev=dev)
    assert (task.shift, task.scale) == (4.0, 1.0)


@pytest.mark.parametrize("value", ["x", "nan", "inf", True, [1], ""])
def test_what_is_no_number_names_its_row(tmp_path, value):
    with pytest.raises(UserError, match=r"mine.jsonl, line 2: the column 'kind' holds .* a number"):
        load(tmp_path, rows(1, value), kind="regression")


TEXT_SUFFIXES, LIST_SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet"), (".jsonl", ".parquet")


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        *(("blanks", suffix) for suffix in TEXT_SUFFIXES),
        *(("json", suffix) for suffix in TEXT_SUFFIXES),
        *(("list", suffix) for suffix in LIST_SUFFIXES),
    ],
)
def test_words_and_labels_are_lists_or_stand_between_blanks(tmp_path, suffix, form):
    words, tags = [["Ada", "in", "Rom"], ["so"]], [["B", "O", "B"], ["O"]]
    as_stored = {"blanks": "  ".join, "json": json.dumps, "list": list}[form]
    records = [
        {"words": as_stored(a), "tags": as_stored(b)} for a, b in zip(words, tags, strict=True)
    ]
    dev = write(tmp_path / f"dev{suffix}", records)
    task, loaded = load(tmp_path, records, "tokens", WORDS, suffix=suffix, dev=dev, test=dev)
    assert task.labels == ("B", "O")
    assert loaded.splits["train"] == [
        WordsExample("0", ("Ada", "in", "Rom"), (0, 1, 0)),
        WordsExample("1", ("so",), (1,)),
    ]
    assert loaded.splits["test"][0].labels is None


def test_words_that_look_like_a_list_are_words(tmp_path):
    records = [{"words": "[ 12 ]", "tags": "[0, 1, 2]"}, {"words": "[ a", "tags": [0, 2]}]
    _, loaded = load(tmp_path, records, "tokens", WORDS)
    examples = {e.id: e for split in loaded.splits.values() for e in split}
    assert examples["0"] == WordsExample("0", ("[", "12", "]"), (0, 1, 2))
    assert examples["1"] == WordsExample("1", ("[", "a"), (0, 2))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"words": "a b c", "tags": "O O"}, r"line 2 has 3 words in column 'words' and 2 labels"),
        ({"words": "a b", "tags": "O"}, r"line 2 has 2 words .* and 1 label in"),
        ({"words": "", "tags": ""}, r"line 2 has no words"),
        ({"words": [" ", ""], "tags": "O O"}, r"line 2 has no words"),
        ({"words": None, "tags": "O"}, r"line 2 has null in column 'words'"),
        ({"words": "a", "tags": [None]}, r"line 2: the column 'tags' holds None"),
        ({"words": 3, "tags": "O"}, r"line 2: the column 'words' holds a int"),
        ({"words": ["a", 3], "tags": "O O"}, r"line 2: the column 'words' holds 3 among"),
    ],
)
def test_words_without_labels_name_their_row(tmp_path, record, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, [{"words": "a", "tags": "O"}, record], "tokens", WORDS)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"body": None, "kind": "a"}, r"mine.jsonl, line 2 has null in column 'body'"),
        ({"kind": "a"}, r"line 2 has no column 'body'"),
        ({"body": "x", "kind": None}, r"line 2 has null in column 'kind'"),
        ({"body": "x", "kind": ""}, r"line 2: the column 'kind' holds ''"),
        ({"body": "x", "kind": ["a"]}, r"line 2: the column 'kind' holds \['a'\]"),
        ({"body": "x", "kind": float("nan")}, r"line 2: the column 'kind' holds nan"),
        ({"body": 3, "kind": "a"}, r"line 2: the column 'body' holds a int \(3\)"),
    ],
)
def test_what_is_missing_names_its_row(tmp_path, record, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, [*rows("a"), record])


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u00a0"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_an_empty_text_names_its_row_and_counts_the_others(tmp_path, text, kind):
    filled, empty = {"body": "x", "kind": "1"}, {"body": text, "kind": "2"}
    with pytest.raises(UserError, match=r"line 2 has an empty text in column 'body'\. Fill it in"):
        load(tmp_path, [filled, empty, filled], kind)
    with pytest.raises(UserError, match=r"line 2 .* column 'body' \(likewise 2 later rows\)\."):
        load(tmp_path, [filled, empty, filled, empty, empty], kind)
    for split in ("dev", "test"):
        files = {"dev": write(tmp_path / "dev.jsonl", [filled, filled])}
        files[split] = write(tmp_path / f"{split}.jsonl", [filled, filled, empty])
        with pytest.raises(UserError, match=rf"{split}.jsonl, line 3 has an empty text"):
            load(tmp_path, [filled, {"body": "y", "kind": "2"}], kind, **files)


def test_of_a_pair_neither_text_may_be_empty(tmp_path):
    columns = Columns(text="body", second_text="more", label="kind")
    for record, name in (({"body": " ", "more": ""}, "body"), ({"body": "x", "more": ""}, "more")):
        rows_of_pair = [{"body": "x", "more": "y", "kind": "a"}, {**record, "kind": "b"}]
        with pytest.raises(UserError, match=rf"line 2 has an empty text in column '{name}'\."):
            load(tmp_path, rows_of_pair, columns=columns)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_ids_are_those_of_the_file_where_rows_are_predicted(tmp_path, suffix):
    records = [{**row, "id": 30 - i} for i, row in enumerate(rows("a", "b"))]
    path = write(tmp_path / f"test{suffix}", records)
    task, loaded = load(tmp_path, records, dev=path, test=path, suffix=suffix)
    ids = {name: [example.id for example in split] for name, split in loaded.splits.items()}
    assert ids == {"train": ["0", "1"], "dev": ["0", "1"], "test": ["30", "29"]}
    judged = read_examples(task, COLUMNS, path, has_labels=True)
    assert [example.id for example in judged] == ["0", "1"]


def test_missing_columns_are_told_with_those_that_are_there(tmp_path):
    wanted = (
        r"has no column 'text'; it has 'body', 'kind'. Name the columns by --text and --label\.$"
    )
    with pytest.raises(UserError, match=wanted):
        load(tmp_path, rows("a", "b"), columns=Columns(text="text", label="kind"))
    no_label = write(tmp_path / "test.tsv", [{"body": "x"}])
    task, loaded = load(tmp_path, rows("a", "b"), dev_fraction=0.5, test=no_label)
    assert loaded.splits["test"] == read_examples(task, COLUMNS, no_label, has_labels=False)
    with pytest.raises(UserError, match=r"test.tsv has no column 'kind'; it has 'body'"):
        read_examples(task, COLUMNS, no_label, has_labels=True)
    pair = Columns(text="a", second_text="b", label="")
    with pytest.raises(UserError, match=r"Name the columns by --text and --text_pair\.$"):
        read_examples(task, pair, no_label, has_labels=False)
    with pytest.raises(UserError, match=r"Name the column by --text\.$"):
        read_examples(task, Columns(text="a", label=""), no_label, has_labels=False)
    (tmp_path / "none.tsv").write_text("body\n")
    with pytest.raises(UserError, match="none.tsv has no rows"):
        read_examples(task, COLUMNS, str(tmp_path / "none.tsv"), has_labels=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dev_fraction": 0.0}, "no dev data and the share .* is 0.0"),
        ({"dev_fraction": 1.0}, "a share between 0 and 1"),
        ({"dev": "x", "dev_fraction": 0.5}, "not both"),
        ({"kind": "span", "dev_fraction": 0.5}, "must be classification, regression, tokens"),
        ({"kind": "regression", "labels": ["a"], "dev_fraction": 0.5}, "has no classes"),
        ({"labels": ["a", "b", "a"], "dev_fraction": 0.5}, "a, b, a; each must be given once"),
    ],
)
def test_flags_that_do_not_fit_are_told(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, rows("1", "2"), **options)


def test_data_that_teaches_nothing_is_told(tmp_path):
    with pytest.raises(UserError, match=r"only label of .*mine.jsonl is 'a'; .* two different"):
        load(tmp_path, rows("a", "a"))
    with pytest.raises(UserError, match="has 1 row; two are needed"):
        load(tmp_path, rows("a"))
    columns = Columns(text="words", second_text="more", label="tags")
    with pytest.raises(UserError, match="no second text"):
        load(tmp_path, rows("a"), "tokens", columns)


class Tagged(tfds.core.GeneratorBasedBuilder):
    """As TFDS has CoNLL-2003."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        tags = tfds.features.ClassLabel(names=["O", "B"])
        features = {
            "words": tfds.features.Sequence(tfds.features.Text()),
            "tags": tfds.features.Sequence(tags),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"words": ["Ada", "so"], "tags": ["B", "O"]}
        yield 1, {"words": ["é"], "tags": ["O"]}


def test_a_tfds_dataset_is_a_table(tmp_path):
    Tagged(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    name = f"tfds:{tmp_path}/tagged/1.0.0:train"
    task, loaded = load_table("tokens", WORDS, train=name, dev=name)
    assert (task.title, task.labels) == (name, ("B", "O"))
    assert loaded.splits["dev"] == [
        WordsExample("0", ("Ada", "so"), (0, 1)),
        WordsExample("1", ("é",), (1,)),
    ]
