"""Predictions of tables and of published tasks, as files that are whole or not there."""

import json

import pytest

import roberta_jax
from roberta_jax.data.tables import read_table
from roberta_jax.errors import TruncationWarning, UserError
from roberta_jax.finetune.predict_files import predict_data, predict_table
from tests.finetune import models
from tests.finetune.models import PASSAGE, TEXTS
from tests.finetune.tasks_on_disk import write_squad


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of every kind, by name; tests must not change it."""
    folder = tmp_path_factory.mktemp("models")
    for name in models.TASKS:
        models.write_model(folder / name, name)
    return folder


def write_table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_of(path):
    return [record for _, record in read_table(str(path)).rows]


def quiet(line):
    del line


def test_a_table_with_the_columns_that_the_model_remembers(folder, tmp_path):
    table = write_table(tmp_path / "in.jsonl", [{"review": text, "x": 1} for text in TEXTS])
    said = []
    predict_table(folder / "classification", table, tmp_path / "out.jsonl", say=said.append)
    rows = rows_of(tmp_path / "out.jsonl")
    wanted = roberta_jax.load_task(folder / "classification").predict(TEXTS)
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert [row["label"] for row in rows] == [answer.label for answer in wanted]
    for row, answer in zip(rows, wanted, strict=True):
        assert row["probabilities"] == pytest.approx(answer.probabilities, abs=1e-6)
    assert said == [f"3 predictions of moods written to {tmp_path / 'out.jsonl'}"]


def test_other_columns_can_be_named(folder, tmp_path):
    table = write_table(tmp_path / "in.jsonl", [{"a": text, "b": "the"} for text in TEXTS])
    options = {"text": "a", "say": quiet}
    predict_table(folder / "classification", table, tmp_path / "one.tsv", **options)
    predict_table(folder / "pairs", table, tmp_path / "two.tsv", text_pair="b", **options)
    assert [row["label"] for row in rows_of(tmp_path / "one.tsv")] == [
        answer.label for answer in roberta_jax.load_task(folder / "classification").predict(TEXTS)
    ]
    assert [row["label"] for row in rows_of(tmp_path / "two.tsv")] == [
        answer.label
        for answer in roberta_jax.load_task(folder / "pairs").predict(TEXTS, ["the"] * 3)
    ]


def test_numbers_and_words(folder, tmp_path):
    table = write_table(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    predict_table(folder / "regression", table, tmp_path / "numbers.jsonl", say=quiet)
    wanted = roberta_jax.load_task(folder / "regression").predict(TEXTS)
    values = [row["value"] for row in rows_of(tmp_path / "numbers.jsonl")]
    assert values == pytest.approx(wanted, abs=1e-6)
    predict_table(folder / "tokens", table, tmp_path / "words.jsonl", say=quiet)
    found = rows_of(tmp_path / "words.jsonl")
    wanted = roberta_jax.load_task(folder / "tokens").predict(TEXTS)
    assert [list(zip(row["words"], row["labels"], strict=True)) for row in found] == wanted


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["b", "a", "b"], ["b", "a", "b"]),
        ([7, 10**20, -1], ["7", str(10**20), "-1"]),
        (["a", None, "b"], ["0", "1", "2"]),
        (["a", "", "b"], ["0", "1", "2"]),
        ([[1], [2], [3]], ["0", "1", "2"]),
    ],
)
@pytest.mark.parametrize("name", ["regression", "tokens", "span"])
def test_a_column_of_ids_names_the_predictions(folder, tmp_path, name, ids, wanted):
    texts = {"text": "the", "question": "Who?", "context": PASSAGE}
    table = write_table(tmp_path / "in.jsonl", [{"id": each, **texts} for each in ids])
    predict_table(folder / name, table, tmp_path / "out.tsv", say=quiet)
    assert [row["id"] for row in rows_of(tmp_path / "out.tsv")] == wanted


@pytest.mark.parametrize("name", ["span", "unanswerable"])
def test_a_table_of_questions(folder, tmp_path, name):
    questions = ["What river?", "Who?", "Where stone?"]
    rows = [{"question": question, "context": PASSAGE} for question in questions]
    table = write_table(tmp_path / "in.jsonl", rows)
    predict_table(folder / name, table, tmp_path / "out.tsv", say=quiet)
    wanted = roberta_jax.load_task(folder / name).answer(questions, [PASSAGE] * 3)
    found = [row["answer"] for row in rows_of(tmp_path / "out.tsv")]
    assert found == [answer.text for answer in wanted]


def test_what_is_cut_is_counted(folder, tmp_path):
    table = write_table(tmp_path / "in.jsonl", [{"review": "river " * 99}, {"review": "the"}])
    model = folder / "classification"
    with pytest.raises(UserError, match="1 of 2 texts is too long"):
        predict_table(model, table, tmp_path / "out.tsv", strict=True, say=quiet)
    assert not (tmp_path / "out.tsv").exists()
    with pytest.warns(TruncationWarning, match="1 of 2 texts is too long"):
        predict_table(model, table, tmp_path / "out.tsv", say=quiet)
    assert len(rows_of(tmp_path / "out.tsv")) == 2


# ---- Published tasks ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rte(tmp_path_factory):
    target = tmp_path_factory.mktemp("glue") / "RTE"
    target.mkdir()
    for name, labels in (("train", True), ("dev", True), ("test", False)):
        head = "index\tsentence1\tsentence2" + "\tlabel" * labels
        rows = [f"{i}\t{text}\tthe{chr(9) + 'entailment' * labels}" for i, text in enumerate(TEXTS)]
        lines = [head, *(row.rstrip("\t") for row in rows)]
        (target / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return target


def test_glue_in_the_format_of_its_server(folder, tmp_path, rte):
    said = []
    predict_data(folder / "pairs", str(rte), tmp_path / "out", say=said.append)
    (path,) = (tmp_path / "out").iterdir()
    wanted = roberta_jax.load_task(folder / "pairs").predict(TEXTS, ["the"] * 3)
    lines = [f"{i}\t{answer.label}" for i, answer in enumerate(wanted)]
    assert path.name == "RTE.tsv"
    assert path.read_text().splitlines() == ["index\tprediction", *lines]
    assert said == [f"RTE test, 3 predictions written to {path}"]
    predict_data(folder / "pairs", str(rte), tmp_path / "dev", split="dev", say=quiet)
    assert [path.name for path in (tmp_path / "dev").iterdir()] == ["RTE-dev.tsv"]


def test_the_other_splits_are_not_read(folder, tmp_path, rte):
    data = tmp_path / "RTE"
    data.mkdir()
    for name in ("train", "dev"):
        (data / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\n")
    (data / "test.tsv").write_bytes((rte / "test.tsv").read_bytes())
    predict_data(folder / "pairs", str(data), tmp_path / "out", say=quiet)
    assert len(rows_of(tmp_path / "out" / "RTE.tsv")) == 3
    with pytest.raises(UserError, match=r"dev.tsv, line 2 has 1 field"):
        predict_data(folder / "pairs", str(data), tmp_path / "dev", split="dev", say=quiet)


def test_squad_with_the_threshold_of_training(folder, tmp_path):
    data = write_squad(tmp_path / "squad")
    predict_data(folder / "unanswerable", str(data), tmp_path / "out", say=quiet)  # Has no test.
    answers = json.loads((tmp_path / "out" / "squad2-dev.json").read_text())
    probabilities = json.loads((tmp_path / "out" / "squad2-dev-na_prob.json").read_text())
    assert len(answers) == len(probabilities) == 8
    predict_data(
        *(folder / "unanswerable", str(data / "dev.json"), tmp_path / "all"),
        **{"no_answer_threshold": 1e9, "say": quiet},
    )
    every = json.loads((tmp_path / "all" / "squad2-dev.json").read_text())
    assert all(every.values())
    threshold = 1 / (1 + 2.718281828459045**-0.25)
    for name, answer in answers.items():
        assert answer == ("" if probabilities[name] > threshold else every[name])


def test_race(folder, tmp_path):
    for split in ("test", "dev"):
        group = tmp_path / "race" / split / "middle"
        group.mkdir(parents=True)
        article = {
            "article": "A stone.",
            "questions": ["Is it _ ?", "Why?"],
            "options": [["a", "b", "c"], ["d", "e", "f"]],
            "answers": ["A", "B"],
        }
        (group / "1.txt").write_text(json.dumps(article))
    predict_data(folder / "choice", str(tmp_path / "race"), tmp_path / "out", say=quiet)
    letters = json.loads((tmp_path / "out" / "race-test.json").read_text())
    model = roberta_jax.load_task(folder / "choice")
    wanted = [
        model.choose("Is it _ ?", ["a", "b", "c"], "A stone.").label,
        model.choose("Why?", ["d", "e", "f"], "A stone.").label,
    ]
    assert list(letters) == ["1.txt-0", "1.txt-1"]
    assert [letters["1.txt-0"], letters["1.txt-1"]] == [
        "ABC"["abc".index(wanted[0])],
        "ABC"["def".index(wanted[1])],
    ]


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("classification", {"output": "in.jsonl"}, "in.jsonl exists. Choose another --output"),
        ("classification", {"output": "out.csv"}, "its name must end in .jsonl or .tsv"),
        ("classification", {"output": "gs://b/out.tsv"}, "is not local"),
        ("classification", {}, "in.jsonl has no column 'review'; it has 'text', 'other'"),
        ("classification", {"text": "t"}, "in.jsonl has no column 't'"),
        ("classification", {"text": "text", "text_pair": "other"}, "leave --text_pair=other out"),
        ("classification", {"table": "nowhere.csv", "text": "text"}, "nowhere.csv"),
        ("classification", {"table": "empty.tsv", "text": "text"}, "empty.tsv"),
        ("tokens", {"text_pair": "other"}, "names is about single texts"),
        ("pairs", {}, "name the column of the second text by --text_pair"),
        ("span", {}, "in.jsonl has no column 'question' and no column 'context'"),
        (
            "span",
            {"text": "text", "text_pair": "blank"},
            "in.jsonl, line 1 has an empty text in column 'blank'",
        ),
        (
            "classification",
            {"text": "blank"},
            "in.jsonl, line 1 has an empty text in column 'blank'",
        ),
        ("choice", {}, "RACE is multiple choice, which a table has no columns for"),
        ("nowhere", {}, "nowhere is not there"),
    ],
)
def test_a_table_that_cannot_be_used_leaves_nothing(
    folder, tmp_path, monkeypatch, name, options, message
):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "in.jsonl", [{"text": "the", "other": "a", "blank": " "}])
    (tmp_path / "empty.tsv").touch()
    before = sorted(tmp_path.rglob("*"))
    arguments = {"table": "in.jsonl", "output": "out.jsonl", "say": quiet, **options}
    with pytest.raises(UserError, match=message) as caught:
        predict_table(folder / name, **arguments)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("classification", {}, "for moods, is none of a published task"),
        ("pairs", {"split": "tset"}, "RTE in .* has no split tset; it has: train, dev, test"),
        ("pairs", {"data": "nowhere"}, "nowhere"),
        ("pairs", {"output": "."}, "exists. Choose another --output, or remove it"),
        ("span", {}, "RTE"),
    ],
)
def test_data_that_cannot_be_used_leaves_nothing(
    folder, tmp_path, monkeypatch, rte, name, options, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        predict_data(folder / name, **{"data": str(rte), "output": "out", "say": quiet, **options})
    assert list(tmp_path.iterdir()) == []
