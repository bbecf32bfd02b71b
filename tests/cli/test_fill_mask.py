"""roberta-jax fill-mask."""

import re

import pytest

from roberta_jax.cli.main import main

TEXT = "The old river <mask> over the bridge."


def test_every_text_is_followed_by_its_candidates(complete, capfd):
    flags = [f"--workdir={complete}", "--top_k=3"]
    assert main(["fill-mask", *flags, TEXT, "<mask> and <mask>"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert [lines[0], lines[5]] == [TEXT, "<mask> and <mask>"]
    candidates = [line for line in lines if line.startswith("  ")]
    assert len(candidates) == 9
    assert all(re.fullmatch(r" +\d+\.\d%  ['\"].+['\"]", line) for line in candidates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no mask"], "The text 'no mask' has no <mask>; write it"),
        (["<mask>" + " stone" * 99, "--strict"], "and this model takes at most 32. Shorten it,"),
        ([TEXT, "--model=x"], "Give --workdir or --model, not both"),
        ([TEXT, "--step=7"], "has no checkpoint of step 7"),
        ([TEXT, "--workdir=nowhere"], "nowhere is not there"),
    ],
    ids=["no mask", "too long", "both", "no such step", "no workdir"],
)
def test_what_cannot_be_answered_is_one_paragraph(complete, capsys, arguments, message):
    assert main(["fill-mask", f"--workdir={complete}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_text_that_is_too_long_is_cut_and_said(complete, capfd):
    assert main(["fill-mask", f"--workdir={complete}", "<mask>" + " stone" * 99]) == 0
    said = capfd.readouterr()
    assert said.err.startswith("roberta-jax: The text has ") and said.err.count("\n") == 1
    assert said.out.count("%") == 5


def test_a_model_is_asked_for(capsys):
    assert main(["fill-mask", "<mask>"]) == 2
    assert "--workdir is missing" in capsys.readouterr().err
