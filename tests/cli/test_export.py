"""roberta-jax export."""

import json
import re

import pytest

from roberta_jax.cli.main import main
from tests.finetune import models
from tests.interop import foreign

TEXT = "The old river <mask> over the bridge."


def paragraph(capfd):
    error = capfd.readouterr().err
    assert error.startswith("roberta-jax: ") and error.count("\n") == 1
    return error


def test_the_folder_answers_as_the_run_does(complete, tmp_path, capfd):
    output = tmp_path / "out"
    assert main(["export", f"--workdir={complete}", f"--output={output}"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert re.fullmatch(rf"roberta, step 20, float32, \d\.\d MB, written to {output}\n", said.out)
    answers = []
    for flag in (f"--workdir={complete}", f"--model={output}"):
        assert main(["fill-mask", flag, TEXT]) == 0
        answers.append(capfd.readouterr().out)
    assert answers[0] == answers[1] and answers[0].count("%") == 5


def test_the_flags(complete, tmp_path, capfd):
    output = tmp_path / "out"
    flags = [f"--workdir={complete}", f"--output={output}"]
    assert main(["export", *flags, "--step=10", "--dtype=bfloat16"]) == 0
    assert "roberta, step 10, bfloat16, " in capfd.readouterr().out
    assert json.loads((output / "config.json").read_text())["dtype"] == "bfloat16"
    assert main(["export", *flags]) == 2
    assert "exists. Choose another --output, or --overwrite to replace it" in paragraph(capfd)
    assert main(["export", *flags, "--overwrite"]) == 0
    assert json.loads((output / "config.json").read_text())["dtype"] == "float32"


def test_a_fine_tuned_model_becomes_a_class_for_its_task(tmp_path, capfd):
    models.write_model(tmp_path / "run" / "moods" / "model")
    flags = [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *flags, "--step=3"]) == 2
    assert "is a fine-tuned model and has no steps; leave --step=3 out" in paragraph(capfd)
    assert main(["export", *flags]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    name = "RobertaForSequenceClassification"
    output = re.escape(str(tmp_path / "out"))
    assert re.fullmatch(rf"{name}, moods, float32, \d\.\d MB, written to {output}\n", said.out)
    answers = []
    for folder in ("run", "out"):
        assert main(["predict", f"--model={tmp_path / folder}", "--top_k=3", TEXT]) == 0
        answers.append(capfd.readouterr().out)
    assert answers[0] == answers[1] and answers[0].count("%") == 3
    assert main(["export", *flags, "--overwrite", "--dtype=bfloat16"]) == 0
    assert "moods, bfloat16, " in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output is missing: the folder that is written."),
        (["--workdir="], "--workdir is missing: the folder of a `roberta-jax pretrain` run."),
        (["--output=out", "x"], "export takes no positional arguments, got ['x']"),
        (["--output=out", "--dtype=float16"], "value should be one of <float32|bfloat16>"),
        (["--output=out", "--step=-2"], "-2"),
        (["--output=out", "--step=7"], "has no checkpoint of step 7. It has: [5, 10, 15, 20]"),
        (["--output=out", "--workdir=nowhere"], "nowhere is not a workdir"),
        (["--output=file/out"], "file/out cannot be made"),
        (["--output=model", "--overwrite"], "model exists, and `roberta-jax export` did not"),
        (["--output=s3://bucket/out"], "s3://bucket/out is not local"),
        (["--output=out", "--workdir=model"], "model is a Hugging Face folder, not a workdir"),
    ],
)
def test_bad_input_is_one_paragraph_and_leaves_nothing(
    complete, tmp_path, monkeypatch, capfd, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    foreign.write_folder(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", f"--workdir={complete}", *arguments]) == 2
    assert message in paragraph(capfd)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_names_the_flags(capsys):
    assert main(["export", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--workdir", "--step", "--output", "--dtype  <float32|bfloat16>", "--overwrite"):
        assert flag in text
