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
        (["no mask"], "The text 'no mask' has no <mask>; write <mask>"),
        (["<mask>" + " stone" * 99], "tokens; this model takes at most 32. Shorten it."),
        ([TEXT, "--step=7"], "has no checkpoint of step 7"),
        ([TEXT, "--workdir=nowhere"], "nowhere is not a workdir"),
    ],
    ids=["no mask", "too long", "no such step", "no workdir"],
)
def test_what_cannot_be_answered_is_one_paragraph(complete, capsys, arguments, message):
    assert main(["fill-mask", f"--workdir={complete}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
