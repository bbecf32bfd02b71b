import pytest
from absl import flags as absl_flags

from roberta_jax.cli import prepare
from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.data.manifest import Manifest
from roberta_jax.errors import UserError

SENTENCE = "The old river came back under the old bridge. "


def run(*arguments):
    flags = absl_flags.FlagValues()
    prepare.define_flags(flags)
    rest = flags(["prepare", *map(str, arguments)])
    return prepare.run(flags, rest[1:])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text((SENTENCE * 9 + "\n\n") * 3)
    (tmp_path / "more.txt").write_text(SENTENCE * 9)
    train_byte_bpe([SENTENCE * 3], 262).save(tmp_path / "tokenizer")
    return tmp_path


def test_flags_reach_the_dataset(folder):
    arguments = ("--input=text.txt", "--input=more.txt", "--tokenizer=tokenizer", "--output=out")
    options = ("--sequence_length=64", "--sentence_splitter=punctuation", "--rows_per_shard=9")
    assert run(*arguments, *options, "--validation_fraction=0.25", "--on_bad_text=skip") == 0
    manifest = Manifest.load(folder / "out")
    assert manifest.sequence_length == 64
    assert manifest.splits["train"].sentences == 27
    assert manifest.splits["validation"].documents == 1
    assert manifest.settings == {
        "format": "full_sentences",
        "sequence_length": 64,
        "isolate_documents": False,
        "validation_fraction": 0.25,
        "text_field": "text",
        "plain_text_documents": "blank_line",
        "sentence_splitter": "punctuation",
        "on_bad_text": "skip",
        "drop_duplicates": False,
        "rows_per_shard": 9,
    }


def test_duplicates_are_dropped_when_asked(folder, capsys):
    arguments = ("--input=text.txt", "--input=more.txt", "--tokenizer=tokenizer", "--output=out")
    options = ("--sequence_length=64", "--validation_fraction=0", "--drop_duplicates")
    assert run(*arguments, *options) == 0
    manifest = Manifest.load(folder / "out")
    assert manifest.settings["drop_duplicates"] is True
    assert manifest.splits["train"].documents == 1
    assert "3 documents were left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beam_options=--runner=FlinkRunner",), "--beam_options are of --runner=beam"),
        (("--runner=beam", "--num_processes=2"), "--num_processes=2 is of --runner=local"),
        (("--num_processes=-1",), "num_processes is -1"),
    ],
)
def test_options_of_another_runner_are_refused(folder, options, message):
    with pytest.raises(UserError, match=message):
        run("--input=text.txt", "--tokenizer=tokenizer", "--output=out", *options)
    assert not (folder / "out").exists()


def test_flags_of_formats_and_documents_reach_the_dataset(folder):
    (folder / "lines.txt").write_text((SENTENCE * 2 + "\n") * 40)
    arguments = ("--input=lines.txt", "--tokenizer=tokenizer", "--output=out")
    options = ("--format=segment_pair", "--plain_text_documents=line", "--seed=7")
    options += ("--sentence_splitter=rules", "--language=de")
    more = ("--sequence_length=64", "--short_sequence_probability=0.5", "--num_processes=2")
    assert run(*arguments, *options, *more) == 0
    manifest = Manifest.load(folder / "out")
    assert (manifest.format, manifest.attention) == ("segment_pair", "example")
    assert manifest.settings["seed"] == 7
    assert manifest.settings["short_sequence_probability"] == 0.5
    assert sum(split.documents for split in manifest.splits.values()) == 40
    run("--input=text.txt", "--tokenizer=tokenizer", "--output=own", "--isolate_documents")
    assert Manifest.load(folder / "own").attention == "example"


def test_a_validation_input_turns_the_fraction_off(folder):
    arguments = ("--input=text.txt", "--tokenizer=tokenizer", "--sequence_length=64")
    run(*arguments, "--output=own", "--validation_input=more.txt")
    assert Manifest.load(folder / "own").settings["validation_fraction"] == 0
    run(*arguments, "--output=share")
    assert Manifest.load(folder / "share").settings["validation_fraction"] == 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=text.txt", "--tokenizer=tokenizer"], "--output is missing"),
        (["--input=text.txt", "--output=x"], "--tokenizer is missing"),
        (["text.txt", "--output=x", "--tokenizer=tokenizer"], "no positional arguments"),
        (["--output=x", "--tokenizer=tokenizer"], "No input is given"),
        (["--output=x", "--tokenizer=nowhere", "--input=text.txt"], "has no tokenizer"),
    ],
)
def test_unusable_flags_are_refused(folder, arguments, message):
    with pytest.raises(UserError, match=message):
        run(*arguments)
    assert not (folder / "x").exists()
