"""roberta-jax demo, from the command line to the exit code."""

import pytest

from roberta_jax import demo
from roberta_jax.cli.main import main


@pytest.mark.parametrize(
    ("flags", "workdir"), [((), "demo"), (("--workdir=elsewhere",), "elsewhere")]
)
def test_the_folder_and_the_exit_code_are_those_of_the_run(monkeypatch, flags, workdir):
    seen = []
    monkeypatch.setattr(demo, "run_demo", lambda folder: seen.append(folder) or 130)
    assert main(["demo", *flags]) == 130
    assert seen == [workdir]


def test_an_argument_is_refused(capsys):
    assert main(["demo", "now"]) == 2
    assert "demo takes no positional arguments" in capsys.readouterr().err
