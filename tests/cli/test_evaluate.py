"""roberta-jax evaluate."""

import re

import pytest

from roberta_jax.cli.main import main
from tests.train import runs


def test_the_figures_of_a_checkpoint_are_printed_on_one_line(complete, capfd):
    assert main(["evaluate", f"--workdir={complete}", "--step=10", "--max_rows=16"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    wanted = [line for line in runs.lines_of(complete) if line["kind"] == "eval"][1]
    loss, perplexity, accuracy = (
        *(wanted["loss_nats"], wanted["perplexity"], wanted["masked_accuracy"]),
    )
    assert said.out == (
        f"step 10 | validation loss {loss:.4f} nats | perplexity {perplexity:,.3f} | "
        f"accuracy {accuracy:.2%} | {wanted['num_predictions']} predictions\n"
    )


def test_the_newest_step_and_the_other_split(complete, dataset, capsys):
    flags = [f"--workdir={complete}", "--split=train", f"--data={dataset}", "--max_rows=16"]
    assert main(["evaluate", *flags]) == 0
    assert re.match(r"step 20 \| train loss \d\.\d{4} nats", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--step=7", "has no checkpoint of step 7. It has: [5, 10, 15, 20]"),
        ("--data=nowhere", "nowhere is no prepared dataset"),
        ("--workdir=nowhere", "nowhere is not there"),
    ],
)
def test_what_is_not_there_is_one_paragraph(complete, capsys, flag, message):
    assert main(["evaluate", f"--workdir={complete}", flag]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_damaged_checkpoint_is_one_paragraph(complete, tmp_path, capfd):
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    for path in (workdir / "checkpoints" / "20" / "state").glob("**/d/*"):
        path.write_bytes(path.read_bytes()[:100])
    assert main(["evaluate", f"--workdir={workdir}"]) == 2
    error = capfd.readouterr().err
    assert f"{workdir / 'checkpoints' / '20'} is damaged" in error and error.count("\n") == 1
    assert main(["evaluate", f"--workdir={workdir}", "--step=15", "--max_rows=16"]) == 0
