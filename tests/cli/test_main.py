"""Finding the verb, and what a person reads when something is wrong."""

import errno
import signal
import subprocess
import sys
import time

import pytest

import roberta_jax
from roberta_jax.cli import main as main_module
from roberta_jax.cli import report as report_verb
from roberta_jax.cli.main import VERBS, main
from roberta_jax.errors import MachineError, UserError


def paragraph(capsys):
    """The one paragraph on standard error."""
    captured = capsys.readouterr()
    assert captured.err.startswith("roberta-jax: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("roberta-jax: ").rstrip("\n")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_verb_and_how_to_begin(capsys, arguments):
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "Usage: roberta-jax VERB" in said.out and "Begin with `roberta-jax demo`" in said.out
    for verb in VERBS:
        assert f"\n  {verb} " in said.out


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == roberta_jax.__version__ + "\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_its_flags(capsys, verb):
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    module = main_module._module(verb)
    assert said.startswith(f"roberta-jax {verb}: {module.SUMMARY}\n")
    assert f"roberta-jax {verb}" in said.split("\n", 1)[1], "an example"
    assert "\nFlags:\n  --" in said


def test_help_wins_over_flags_that_are_wrong(capsys):
    assert main(["pretrain", "--config=nowhere.py", "--help"]) == 0
    assert "--config.train.duration=" in capsys.readouterr().out


def test_an_unknown_verb_is_told_which_there_are(capsys):
    assert main(["pretrian", "--workdir=x"]) == 2
    text = paragraph(capsys)
    assert "'pretrian' is not a verb" in text and all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_flag_is_refused_by_every_verb(capsys, verb):
    assert main([verb, "--workdirr=x"]) == 2
    text = paragraph(capsys)
    assert "Unknown command line flag 'workdirr'" in text
    assert text.endswith(f"(see `roberta-jax {verb} --help`).")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tokenizer"], "--output is missing"),
        (["prepare"], "--output is missing"),
        (["pretrain"], "--workdir is missing"),
        (["pretrain", "--workdir=x"], "--config is missing"),
        (["pretrain", "--workdir=x", "--config.data.path=y"], "--config is missing"),
        (["evaluate"], "--workdir is missing"),
        (["fill-mask"], "--workdir is missing"),
        (["fill-mask", "--workdir=x"], "Give one or more sentences with <mask>"),
        (["report"], "No workdir was given"),
        (["evaluate", "--workdir=x", "y"], "takes no positional arguments, got ['y']"),
        (["pretrain", "--workdir=x", "y"], "takes no positional arguments, got ['y']"),
        (["evaluate", "--workdir=x", "--step=abc"], "--step=abc"),
        (["evaluate", "--workdir=x", "--step=-2"], "--step=-2"),
        (["evaluate", "--workdir=x", "--max_rows=-1"], "--max_rows=-1"),
        (["evaluate", "--workdir=x", "--split=test"], "--split=test"),
        (["fill-mask", "--workdir=x", "--top_k=0", "y"], "--top_k=0"),
        (["evaluate", "--workdir"], "Missing value for flag --workdir"),
    ],
    ids=" ".join,
)
def test_what_is_missing_or_wrong_is_said_in_one_paragraph(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in paragraph(capsys)
    assert list(tmp_path.iterdir()) == []


def failing(monkeypatch, error):
    def run(flags, arguments):
        raise error

    monkeypatch.setattr(report_verb, "run", run)
    return main(["report"])


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("Mend this."), 2, "Mend this."),
        (MachineError("No room."), 1, "No room."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            1,
            "a/b could not be written: No",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "a file could not be written"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "x could not be written"),
        (OSError(errno.EROFS, "Read-only file system", "x"), 1, "Make room, or choose another"),
    ],
    ids=repr,
)
def test_errors_become_a_paragraph_and_an_exit_code(capsys, monkeypatch, error, code, message):
    assert failing(monkeypatch, error) == code
    assert message in paragraph(capsys)


def test_an_error_of_ours_keeps_its_traceback(monkeypatch):
    with pytest.raises(AssertionError):
        failing(monkeypatch, AssertionError("a bug"))
    with pytest.raises(ChildProcessError):
        failing(monkeypatch, ChildProcessError(errno.ECHILD, "not the disk"))


def test_a_reader_that_leaves_ends_the_command_without_a_traceback(monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # Put back afterwards.
    assert failing(monkeypatch, BrokenPipeError()) == 1


def test_the_console_script_leaves_with_the_exit_code():
    done = subprocess.run(
        [sys.executable, "-m", "roberta_jax.cli.main", "nonsense"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("roberta-jax: 'nonsense' is not a verb.")


LONG_CALL = """
import hashlib, signal
from roberta_jax.cli import main

signal.signal(signal.SIGINT, main._leave)
main._watch_signals()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # Minutes in one call of a library.
"""


def test_an_interrupt_acts_also_while_a_library_is_at_work():
    with subprocess.Popen(
        [sys.executable, "-c", LONG_CALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "roberta-jax: interrupted\n")


DURING_AN_IMPORT = """
import os, signal, sys, types
from roberta_jax.cli import main

processes = types.ModuleType("processes")  # It has none of its functions yet.
if {broken}:
    processes.interrupted = lambda: 1 / 0
sys.modules["roberta_jax.parallel.processes"] = processes
signal.signal(signal.SIGINT, main._leave)
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("broken", [False, True])
def test_an_interrupt_ends_also_in_the_midst_of_an_import_or_with_others_out_of_reach(broken):
    done = subprocess.run(
        [sys.executable, "-c", DURING_AN_IMPORT.format(broken=broken)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "roberta-jax: interrupted\n")
