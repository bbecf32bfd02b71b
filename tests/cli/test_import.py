"""roberta-jax import, and what the other verbs do with its workdir."""

import json
import re

import pytest

from roberta_jax.cli.main import main
from tests.interop import foreign
from tests.train import runs

TEXT = "The old river <mask> over the bridge."


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    """A RoBERTa of the shape of `complete`, with its tokenizer and with weights at random."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    rows = runs.SEQUENCE_LENGTH + 2
    shape = {"num_hidden_layers": 2, "intermediate_size": 32}
    foreign.write_folder(folder, max_position_embeddings=rows, **shape)
    for path in (dataset / "tokenizer").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def workdir(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported") / "run"
    assert main(["import", f"--model={model}", f"--output={folder}"]) == 0
    return folder


def paragraph(capfd):
    error = capfd.readouterr().err
    assert error.startswith("roberta-jax: ") and error.count("\n") == 1
    return error


def test_what_is_said(model, tmp_path, capfd):
    assert main(["import", f"--model={model}", f"--output={tmp_path / 'run'}"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert re.fullmatch(
        r"roberta: 2 layers x 16, vocabulary 300, up to 32 tokens, [\d,]+ parameters", lines[0]
    )
    assert lines[1:] == [f"written to {tmp_path / 'run'}"]


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_fill_mask_gives_the_same_for_the_workdir_and_for_the_model(tmp_path, capfd, family):
    foreign.write_folder(tmp_path / "model", family)
    flags = [f"--model={tmp_path / 'model'}", f"--output={tmp_path / 'run'}"]
    assert main(["import", *flags]) == 0
    capfd.readouterr()
    answers = []
    for flag in (f"--workdir={tmp_path / 'run'}", flags[0]):
        assert main(["fill-mask", flag, TEXT]) == 0
        answers.append(capfd.readouterr().out)
    assert answers[0] == answers[1] and answers[0].count("%") == 5


def test_evaluate_needs_data(workdir, dataset, capfd):
    assert main(["evaluate", f"--workdir={workdir}"]) == 2
    assert "was not trained here; give a prepared dataset by --data" in paragraph(capfd)
    flags = [f"--workdir={workdir}", f"--data={dataset}", "--max_rows=16"]
    assert main(["evaluate", *flags]) == 0
    assert re.match(r"step 0 \| validation loss \d+\.\d{4} nats \|", capfd.readouterr().out)


def test_pretraining_goes_on_from_it_in_another_workdir(
    workdir, complete, dataset, tmp_path, capfd
):
    recipe = runs.write_config_file(tmp_path / "recipe.py", runs.tiny_config(dataset))
    flags = [f"--config={recipe}", f"--init_from={workdir}"]
    assert main(["pretrain", *flags, f"--workdir={tmp_path / 'run'}"]) == 0
    said = capfd.readouterr().out
    assert f"starting from the weights of {workdir}, step 0" in said and "done: 20 steps" in said
    assert main(["pretrain", *flags[:1], f"--workdir={workdir}"]) == 2
    assert "holds an imported model, which has no optimizer to go on with" in paragraph(capfd)
    output = tmp_path / "out"
    assert main(["export", f"--workdir={tmp_path / 'run'}", f"--output={output}"]) == 0
    card = (output / "README.md").read_text()
    assert "20 updates, 320 rows" in card and "It began with the weights of run, step 0." in card
    assert str(tmp_path) not in card and str(workdir.parent) not in card


def test_only_an_earlier_import_is_replaced(model, tmp_path, capfd):
    flags = [f"--model={model}", f"--output={tmp_path / 'run'}"]
    assert main(["import", *flags]) == 0
    capfd.readouterr()
    assert main(["import", *flags]) == 2
    assert "exists. Choose another --output, or --overwrite to replace it" in paragraph(capfd)
    assert main(["import", *flags, "--overwrite"]) == 0
    assert json.loads((tmp_path / "run" / "origin.json").read_text())["model"] == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model is missing: a Hugging Face or fairseq folder."),
        (["--model=a"], "--output is missing: the workdir that is written."),
        (["--model=a", "--output=b", "c"], "import takes no positional arguments, got ['c']"),
        (["--modell=a"], "Unknown command line flag 'modell'"),
        (["--model=roberta-base", "--output=b"], "roberta-base is not there. A model is a folder"),
        (["--model=.", "--output=b"], ". is no model that is known: it has neither config.json"),
        (["--model=gs://bucket/model", "--output=b"], "gs://bucket/model is not local"),
    ],
)
def test_bad_input_is_one_paragraph_and_leaves_nothing(
    tmp_path, monkeypatch, capfd, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments]) == 2
    assert message in paragraph(capfd)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_one_paragraph(model, tmp_path, capfd):
    folder = tmp_path / "model"
    foreign.write_folder(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main(["import", f"--model={folder}", f"--output={tmp_path / 'run'}"]) == 2
    assert f"{weights} is no whole safetensors file" in paragraph(capfd)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_help_names_the_flags(capsys):
    assert main(["import", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--model", "--output", "--overwrite"):
        assert flag in text
