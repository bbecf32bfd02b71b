"""tools/launch/slurm.sbatch: its options, the command that it runs, and when it queues again.

Fake srun and scontrol stand for Slurm.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.tools.launch.commands import checked_pretrain

ROOT = pathlib.Path(__file__).parents[3]
SCRIPT = ROOT / "tools" / "launch" / "slurm.sbatch"

# Options of sbatch (its manual page, Slurm 23.11 and later), with the form of their values.
SBATCH_OPTIONS = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "cpus-per-task": r"\d+",
    "mem": r"\d+[KMGT]?",
    "exclusive": None,
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
    "output": r"\S*%j\S*",
    "open-mode": r"append|truncate",
    "requeue": None,
    "signal": r"([RB]+:)?(TERM|USR1)@\d+",
    "partition": r"\w+",
    "account": r"\w+",
}


def options():
    """{name: value, or None} of the #SBATCH lines; Slurm reads them down to the first command."""
    before_commands = re.split(r"\n(?=[^#\n])", SCRIPT.read_text())[0]
    lines = re.findall(r"^#SBATCH (.*)$", before_commands, re.MULTILINE)
    assert lines and len(lines) == SCRIPT.read_text().count("\n#SBATCH")
    parts = [re.fullmatch(r"--([\w-]+)(?:=(.*))?", line).groups() for line in lines]
    assert len(parts) == len(dict(parts)), "an option is given twice"
    return dict(parts)


def test_slurm_knows_every_option_and_its_value():
    for name, value in options().items():
        form = SBATCH_OPTIONS[name]
        assert value is None if form is None else re.fullmatch(form, value), f"--{name}={value}"


def test_the_options_are_those_of_a_run_that_saves_and_goes_on():
    found = options()
    assert "requeue" in found and found["open-mode"] == "append"
    name, _, seconds = found["signal"].partition("@")
    assert name == "TERM", "B:TERM reaches the shell only, and nothing is saved"
    assert int(seconds) >= 60


def test_there_is_a_task_for_every_gpu_and_it_can_see_all_of_its_node():
    found = options()
    assert found["ntasks-per-node"] == found["gpus-per-node"]
    assert not {"gpus-per-task", "gpu-bind"} & set(found)


class Slurm:
    """A folder of submission in which two tasks run, and what was asked of scontrol."""

    def __init__(self, folder):
        self.folder = folder
        self.program(".venv/bin/roberta-jax", 'echo "$*" >>"$SLURM_SUBMIT_DIR/started"\n')
        self.program("bin/scontrol", 'echo "$*" >>"$SLURM_SUBMIT_DIR/scontrol"\n')
        # Each task in a session of its own. The step's code is the highest of its tasks'.
        self.program(
            "bin/srun",
            'echo "$*" >"$SLURM_SUBMIT_DIR/srun"\n'
            "shift\n"
            'for id in 0 1; do SLURM_PROCID=$id setsid "$@" & tasks+=($!); done\n'
            'if [ -n "${SIGNALLED:-}" ]; then\n'
            '  until [ "$(wc -l <"$SLURM_SUBMIT_DIR/started")" = 2 ]; do sleep 0.05; done\n'
            '  for task in "${tasks[@]}"; do kill -TERM -- "-$task"; done\n'
            "fi\n"
            "highest=0\n"
            'for task in "${tasks[@]}"; do\n'
            '  wait "$task" || { code=$?; [ $code -le $highest ] || highest=$code; }\n'
            "done\n"
            "exit $highest\n",
        )

    def program(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/usr/bin/env bash\ntouch "$SLURM_SUBMIT_DIR/started"\n{text}')
        file.chmod(0o755)

    def run(self, task="", *, arguments=(), **environment):
        with (self.folder / ".venv/bin/roberta-jax").open("a") as file:
            file.write(task)
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env=os.environ
            | {"PATH": f"{self.folder}/bin{os.pathsep}{os.environ['PATH']}"}
            | {"SLURM_JOB_ID": "77", "SLURM_SUBMIT_DIR": str(self.folder), "HOME": "/home/me"}
            | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def read(self, name):
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def slurm(tmp_path):
    if shutil.which("setsid") is None:
        pytest.skip("Slurm's machines run Linux, and this is none: there is no setsid")
    return Slurm(tmp_path)


def test_every_task_runs_a_command_that_pretrain_accepts(slurm, monkeypatch):
    assert slurm.run(arguments=["--config.train.duration=3 epochs"]).returncode == 0
    monkeypatch.chdir(ROOT)
    first, second = slurm.read("started")
    assert first == second
    words = first.split(" ")
    assert words[-2:] == ["--config.train.duration=3", "epochs"]
    flags = checked_pretrain([*words[:-2], " ".join(words[-2:])])
    assert flags.workdir == "/home/me/runs/large"
    assert slurm.read("srun")[0].startswith("--kill-on-bad-exit=1 ")


def test_the_settings_come_from_the_environment(slurm):
    slurm.run(DATASET="/data/a", WORKDIR="/data/b", CONFIG="c.py")
    assert slurm.read("started")[0] == (
        "pretrain --config=c.py --config.data.path=/data/a --workdir=/data/b"
    )


def test_a_signal_to_the_tasks_lets_them_save_and_the_job_goes_back_to_the_queue(slurm):
    task = "trap 'sleep 0.3; echo saved >>\"$SLURM_SUBMIT_DIR/saved\"; exit 130' TERM\n"
    task += "sleep 30 & wait\n"
    done = slurm.run(task, SIGNALLED="yes")
    assert done.returncode == 0, done.stderr
    assert slurm.read("saved") == ["saved", "saved"]
    assert slurm.read("scontrol") == ["requeue 77"]
    assert not (slurm.folder / "slurm-77.interrupted").exists()


def test_a_run_that_is_done_is_not_queued_again(slurm):
    (slurm.folder / "slurm-77.interrupted").touch()  # Of a job that was killed while it left.
    assert slurm.run("exit 0\n").returncode == 0
    assert slurm.read("scontrol") == []


@pytest.mark.parametrize("code", [1, 2, 137])
def test_a_failure_keeps_its_exit_code_and_is_not_queued_again(slurm, code):
    assert slurm.run(f"exit {code}\n").returncode == code
    assert slurm.read("scontrol") == []


def test_a_task_that_fails_counts_more_than_one_that_saved(slurm):
    done = slurm.run('exit "$([ "$SLURM_PROCID" = 0 ] && echo 130 || echo 1)"\n')
    assert done.returncode == 1
    assert slurm.read("scontrol") == []
