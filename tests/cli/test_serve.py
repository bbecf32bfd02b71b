"""roberta-jax serve: flags and errors; tests/serve has what it does."""

import subprocess
import sys

import pytest

from roberta_jax.cli.main import main
from roberta_jax.serve import server

DEFAULTS = {"host": "127.0.0.1", "port": 8000, "open_browser": False, "step": -1}


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(server, "serve", lambda folder, **options: made.append((folder, options)))
    return made


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ([], {}),
        (["--step=5"], {"step": 5}),
        (["--port=0", "--open"], {"port": 0, "open_browser": True}),
        (["--host=0.0.0.0", "--port=65535"], {"host": "0.0.0.0", "port": 65535}),
    ],
)
@pytest.mark.parametrize("flag", ["--model", "--workdir"])
def test_the_flags_reach_the_server(calls, flag, arguments, changes):
    assert main(["serve", f"{flag}=runs/small", *arguments]) == 0
    assert calls == [("runs/small", DEFAULTS | changes)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--workdir is missing"),
        (["--model=a", "--workdir=b"], "not both"),
        (["--model=a", "b"], "serve takes no positional arguments, got ['b']"),
        (["--model=a", "--port=65536"], "--port=65536"),
        (["--model=a", "--port=-1"], "--port=-1"),
        (["--model=a", "--step=-2"], "--step=-2"),
    ],
)
def test_unusable_flags_are_one_paragraph(calls, capsys, arguments, message):
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert calls == []


def test_a_folder_without_a_model_is_one_paragraph(capsys, tmp_path):
    assert main(["serve", f"--model={tmp_path}/nowhere", "--port=0"]) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error and error.count("\n") == 1


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_a_missing_extra_is_told_how_to_install_it(capsys, monkeypatch, library):
    for name in [name for name in sys.modules if name.startswith("roberta_jax.serve")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(library), *sys.meta_path])
    assert main(["serve", "--model=runs/small"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("pip install 'roberta-jax[serve]'\n") and error.count("\n") == 1


class Missing:
    def __init__(self, library):
        self.library = library

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self.library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_verb_loads_no_server_until_it_runs():
    script = (
        "import sys; from roberta_jax.cli.main import main; main(['serve', '--help']); "
        "sys.exit(bool({'starlette', 'uvicorn', 'jax', 'anyio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--port" in done.stdout and "no password" in done.stdout
