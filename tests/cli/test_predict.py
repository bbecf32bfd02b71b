"""roberta-jax predict."""

import json
import re

import pytest

from roberta_jax.cli.main import main
from tests.finetune import models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of every kind, by name, and what some of them are asked about."""
    folder = tmp_path_factory.mktemp("models")
    for name in models.TASKS:
        models.write_model(folder / name, name)
    (folder / "passage.txt").write_text("The old river\nand a stone.\n")
    (folder / "in.jsonl").write_text('{"review": "the"}\n{"review": "stone"}\n')
    return folder


def answers(folder, name, *arguments, capfd):
    assert main(["predict", f"--model={folder / name}", *arguments]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    return said.out.splitlines()


def test_a_line_for_each_text(folder, capfd):
    lines = answers(folder, "classification", "the  old\nriver", "bridge " * 10, capfd=capfd)
    found = [re.fullmatch(r"(bad|good|odd) (\d+\.\d)%  \|  (.+)", line) for line in lines]
    assert [match[3] for match in found] == ["the old river", ("bridge " * 10)[:59] + "…"]
    lines = answers(folder, "classification", "the", "--top_k=3", capfd=capfd)
    (match,) = [re.fullmatch(r"(\w+ [\d.]+%), (\w+ [\d.]+%), (\w+ [\d.]+%)  \|  the", lines[0])]
    shares = [float(part.split()[1].rstrip("%")) for part in match.groups()]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.2)


def test_pairs_numbers_and_words(folder, capfd):
    both = answers(folder, "pairs", "the", "a", "--text_pair=stone", capfd=capfd)
    each = answers(folder, "pairs", "the", "a", *["--text_pair=stone"] * 2, capfd=capfd)
    assert both == each and len(both) == 2
    (line,) = answers(folder, "regression", "the", capfd=capfd)
    assert re.fullmatch(r"-?\d+(\.\d+)?  \|  the", line)
    (line,) = answers(folder, "tokens", "Anna saw it", capfd=capfd)
    assert re.fullmatch(r"Anna/[\w-]+ saw/[\w-]+ it/[\w-]+", line)


def test_questions_about_a_passage(folder, capfd):
    passage = f"--passage_file={folder / 'passage.txt'}"
    (line,) = answers(folder, "span", "What?", passage, capfd=capfd)
    answer = line.removesuffix("  |  What?")
    assert answer in "The old river\nand a stone."
    never = ["--no_answer_threshold=1e9", "--passage=a stone"]
    (line,) = answers(folder, "unanswerable", "What?", *never, capfd=capfd)
    assert not line.startswith("(no answer)")
    always = ["--no_answer_threshold=-1e9", "--passage=a stone"]
    (line,) = answers(folder, "unanswerable", "What?", *always, capfd=capfd)
    assert line == "(no answer)  |  What?"
    options = ["--option=old", "--option=no", "--top_k=2"]
    (line,) = answers(folder, "choice", "Is it _ ?", passage, *options, capfd=capfd)
    assert set(re.sub(r"[\d.%, ]+|\|.*", " ", line).split()) == {"old", "no"}


def test_a_table_becomes_a_file(folder, tmp_path, capfd):
    output = tmp_path / "out.jsonl"
    flags = [f"--input={folder / 'in.jsonl'}", f"--output={output}"]
    lines = answers(folder, "classification", *flags, capfd=capfd)
    assert lines == [f"2 predictions of moods written to {output}"]
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    printed = answers(folder, "classification", "the", "stone", capfd=capfd)
    assert [row["label"] for row in rows] == [line.split()[0] for line in printed]


def test_files_of_a_task_become_a_submission(folder, tmp_path, capfd):
    data = tmp_path / "RTE"
    data.mkdir()
    (data / "test.tsv").write_text("index\tsentence1\tsentence2\n0\tthe\ta\n")
    flags = [f"--data={data}", f"--output={tmp_path / 'out'}", "--split=test"]
    (line,) = answers(folder, "pairs", *flags, capfd=capfd)
    assert line == f"RTE test, 1 prediction written to {tmp_path / 'out' / 'RTE.tsv'}"


def test_a_text_that_is_too_long_is_cut_and_said(folder, capfd):
    model = f"--model={folder / 'classification'}"
    assert main(["predict", model, "river " * 99, "the"]) == 0
    said = capfd.readouterr()
    assert said.err == (
        "roberta-jax: 1 of 2 texts is too long for this model, which reads at most 48 tokens; "
        "what is beyond was cut off.\n"
    )
    assert len(said.out.splitlines()) == 2
    assert main(["predict", model, "river " * 99, "--strict"]) == 2
    assert "Shorten what is too long" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("", ["the"], "--model is missing"),
        ("nowhere", ["the"], "nowhere is not there"),
        ("span", [], "Give texts in quotes, or --input=TABLE, or --data=FOLDER: there is none"),
        ("span", ["a", "--input=b"], "one of them; --input and texts are given"),
        ("span", ["a", " "], "Text 2 is empty"),
        ("span", ["a"], "SQuAD 1.1 asks about a passage"),
        ("span", ["a", "--passage=b", "--option=c"], "--option is of no use to a model for SQuAD"),
        ("span", ["a", "--passage=b", "--passage_file=c"], "Give --passage or --passage_file"),
        ("span", ["a", "--passage_file=c"], "--passage_file=c cannot be read"),
        ("span", ["a", "--passage=b", "--text_pair=c"], "--text_pair is of no use"),
        ("choice", ["a", "--passage=b"], "there must be two at least"),
        ("pairs", ["a"], "give the second text of each too, by --text_pair"),
        (
            "pairs",
            ["a", "--text_pair=b", "--text_pair=c"],
            "Given: 1 text and 2 second ones (--text_pair",
        ),
        ("classification", ["a", "--passage=b"], "--passage is of no use to a model for moods"),
        ("classification", ["a", "--text_pair=b"], "moods is about single texts"),
        ("regression", ["a", "--top_k=2"], "--top_k is of no use to a model for"),
        ("span", ["a", "--passage=b", "--top_k=2"], "--top_k is of no use to a model for SQuAD"),
        ("classification", ["--input=a", "--output=b.tsv", "--top_k=1"], "--top_k goes with texts"),
        ("classification", ["a", "--output=b"], "--output goes with --input or --data, and texts"),
        ("classification", ["a", "--no_answer_threshold=1"], "moods asks for no answers"),
        ("classification", ["a", "--task=rte"], "is a model of table, not of rte"),
        ("classification", ["--input=in.jsonl"], "--output is missing: the file"),
        ("classification", ["--input=in.jsonl", "--output=in.jsonl"], "in.jsonl exists"),
        ("classification", ["--input=a", "--output=b", "--passage=c"], "--passage goes with texts"),
        ("classification", ["--input=a", "--output=b.tsv"], "--input=a is not there. Give a file"),
        ("classification", ["--data=a"], "--output is missing: the folder"),
        ("classification", ["--data=a", "--output=b"], "is none of a published task"),
    ],
)
def test_what_cannot_be_answered_is_one_paragraph(
    folder, monkeypatch, capfd, name, arguments, message
):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(["predict", f"--model={name}", *arguments]) == 2
    said = capfd.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert sorted(folder.rglob("*")) == before


def test_the_help_names_the_flags(capsys):
    assert main(["predict", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--model", "--text_pair", "--passage_file", "--input", "--data", "--output"):
        assert flag in text
