"""tools/launch/tpu_vm.sh: its gcloud commands, and what it does when a run ends or a pod goes.

A fake gcloud keeps a pod of two workers in a folder, and runs there what the script sends them.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[3]
SCRIPT = ROOT / "tools" / "launch" / "tpu_vm.sh"
GOLDEN = pathlib.Path(__file__).parent / "tpu_vm_dry_run.txt"
PRETRAIN = (
    "roberta-jax",
    "pretrain",
    "--config=configs/pretrain/pods/base_v5e_16.py",
    "--config.data.path=/mnt/shared/datasets/books",
    "--workdir=/mnt/shared/runs/base",
    "--config.train.duration=3 epochs",
)

# Flags of gcloud 528 (`gcloud … --help`), by command.
PLACE = {"--zone", "--project", "--quiet"}
GCLOUD_FLAGS = {
    "queued-resources create": {
        *PLACE,
        *("--node-id", "--accelerator-type", "--runtime-version", "--spot", "--reserved"),
    },
    "queued-resources describe": PLACE | {"--format"},
    "queued-resources delete": PLACE | {"--force", "--async"},
    "tpu-vm describe": PLACE | {"--format"},
    "tpu-vm ssh": PLACE | {"--worker", "--command", "--internal-ip", "--ssh-flag"},
    "tpu-vm scp": PLACE | {"--worker", "--recurse", "--compress", "--internal-ip"},
}

# Files beside it: `states` of the queued resource (the first now; describing it goes on to the
# next) and `node`, the state of the VM where it is not READY.
FAKE_GCLOUD = r"""#!/usr/bin/env bash
here=@HERE@ kind=$3 verb=$4
echo "$kind $verb" >>"$here/calls"
states=()
if [ -e "$here/states" ]; then read -r -a states <"$here/states"; fi
for word; do
  case $word in
    --worker=all) workers="0 1" ;;
    --worker=*) workers=${word#*=} ;;
    --command=*) command=${word#*=} ;;
  esac
done
case $verb in
  create)
    if [ ${#states[@]} -gt 0 ]; then echo "there is a pod of this name" >&2; exit 1; fi
    for worker in 0 1; do
      home=$here/worker$worker
      if [ -e "$home/roberta_jax/run.pid" ]; then
        kill -KILL -- "-$(cat "$home/roberta_jax/run.pid")" 2>/dev/null
      fi
      rm -rf "$home"
      mkdir -p "$home/venv/bin"
      cp "$here/roberta-jax" "$here/python" "$home/venv/bin"
    done
    rm -f "$here/node"
    cp "$here/states_of_a_new_pod" "$here/states" ;;
  delete) rm "$here/states" ;;
  describe)
    if [ ${#states[@]} -eq 0 ]; then echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; fi
    if [ "$kind" = tpu-vm ]; then
      if [ -e "$here/node" ]; then cat "$here/node"; else echo READY; fi
    else
      echo "${states[0]}"
      if [ ${#states[@]} -gt 1 ]; then echo "${states[@]:1}" >"$here/states"; fi
    fi ;;
  *)
    if [ "${states[0]}" != ACTIVE ] || [ -e "$here/node" ]; then exit 255; fi
    ended=0
    for worker in $workers; do
      export HOME=$here/worker$worker FAKE=$here WORKER=$worker
      if [ "$verb" = scp ]; then cp "$5" "$HOME/${6#*:}"; continue; fi
      bash -c "$command" || ended=$?
    done
    exit $ended ;;
esac
"""

# What a worker does at its n-th start: line n of `plan`, a code for every worker or one for each.
FAKE_ROBERTA_JAX = r"""#!/usr/bin/env bash
echo "$*" >>"$FAKE/started-$WORKER"
number=$(wc -l <"$FAKE/started-$WORKER")
read -r -a codes <<<"$(sed -n "${number}p" "$FAKE/plan")"
code=${codes[$WORKER]:-${codes[0]}}
suspend() {  # By the first worker, and at once: others may be reading.
  if [ "$WORKER" = 0 ]; then
    echo SUSPENDED >"$FAKE/next"
    mv "$FAKE/next" "$FAKE/states"
  fi
}
case $code in
  preempted) suspend; exit 143 ;;
  late) (sleep 0.3; suspend) & exit 1 ;;
  node_preempted) if [ "$WORKER" = 0 ]; then echo PREEMPTED >"$FAKE/node"; fi; exec sleep 30 ;;
  waits) trap 'echo "$WORKER" >>"$FAKE/saved"; exit 130' TERM; sleep 30 & wait ;;
  *) exit "$code" ;;
esac
"""


class Cloud:
    """A folder in which a fake gcloud, and a checkout with the script, lie."""

    def __init__(self, folder):
        self.folder = folder
        self.binaries = folder / "bin"
        self.checkout = folder / "checkout"
        (self.checkout / "tools" / "launch").mkdir(parents=True)
        shutil.copy(SCRIPT, self.checkout / "tools" / "launch")
        for name in ("roberta_jax", "configs"):
            (self.checkout / name).mkdir()
        for name in ("pyproject.toml", "setup.cfg", "constraints.txt", "README.md", "LICENSE"):
            (self.checkout / name).touch()
        self.binaries.mkdir()
        (folder / "states_of_a_new_pod").write_text("ACTIVE\n")
        self.program("bin/gcloud", FAKE_GCLOUD.replace("@HERE@", shlex.quote(str(folder))))
        self.program("bin/mountpoint", "#!/bin/sh\n")
        self.program("python", "#!/bin/sh\n")
        self.program("roberta-jax", FAKE_ROBERTA_JAX)

    def program(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def start(self, action, *arguments, plan=()):
        if plan:
            (self.folder / "plan").write_text("".join(f"{line}\n" for line in plan))
        return subprocess.Popen(
            [
                *("bash", str(self.checkout / "tools" / "launch" / "tpu_vm.sh"), action),
                *("--zone=us-west4-a", "--share=10.0.0.2:/share", "--poll_seconds=0", *arguments),
            ],
            env=os.environ | {"PATH": f"{self.binaries}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *plan, flags=()):
        process = self.start("run", *flags, "--", *PRETRAIN, plan=plan)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def stop(self):
        process = self.start("stop")
        process.communicate(timeout=30)
        assert process.returncode == 0

    def calls(self, name):
        return (self.folder / "calls").read_text().splitlines().count(name)

    def starts(self, worker=0):
        file = self.folder / f"started-{worker}"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def wait_for_start(self):
        deadline = time.monotonic() + 30
        while not (self.starts(0) and self.starts(1)):
            assert time.monotonic() < deadline, "the command was never started"
            time.sleep(0.05)


@pytest.fixture
def cloud(tmp_path):
    if shutil.which("setsid") is None:
        pytest.skip("the workers are Linux machines, and this is none: there is no setsid")
    cloud = Cloud(tmp_path)
    yield cloud
    for file in tmp_path.glob("worker*/roberta_jax/run.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)


def dry_run(*arguments):
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments, "--zone=us-west4-a", "--dry_run", "--", *PRETRAIN],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PATH": os.pathsep.join(["/usr/bin", "/bin"])},
        timeout=60,
    ).stdout


def test_a_dry_run_prints_every_command_in_order():
    assert dry_run("run", "--share=10.0.0.2:/share", "--project=mine") == GOLDEN.read_text()


def commands_in(printed):
    """The words of each command; one goes on over several lines inside quotes."""
    commands, begun = [], ""
    for line in printed.splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            commands.append(shlex.split(begun))
        except ValueError:  # An open quote.
            continue
        begun = ""
    assert commands and not begun
    return commands


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--share=gs://books", "--spot=false"),
        ("copy", "--dataset=configs"),
        ("create", "--accelerator_type=v5p-128", "--runtime_version=v2-alpha-tpuv5"),
        ("watch",),
        ("stop",),
        ("delete",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_gcloud_has_every_command_and_flag(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = [words for words in commands_in(dry_run(*arguments)) if words[0] == "gcloud"]
    assert commands
    for words in commands:
        assert words[:3] == ["gcloud", "compute", "tpus"]
        flags = {word.split("=")[0] for word in words[5:] if word.startswith("--")}
        assert flags <= GCLOUD_FLAGS[" ".join(words[3:5])]
        assert {"--zone", "--quiet"} <= flags


def test_what_the_workers_are_sent_is_bash():
    sent = [
        word.removeprefix("--command=")
        for words in commands_in(dry_run("run", "--share=gs://books"))
        for word in words
        if word.startswith("--command=")
    ]
    assert len(sent) == 4
    for text in sent:
        subprocess.run(["bash", "-n", "-c", text], check=True)


def test_spot_is_the_default_and_can_be_left_out():
    assert " --spot" in dry_run("create")
    assert " --spot" not in dry_run("create", "--spot=false")


def test_a_run_that_is_done_ends_the_loop(cloud):
    code, said = cloud.run("0")
    assert code == 0 and "still there and is charged" in said
    assert cloud.starts(0) == cloud.starts(1) == 1
    assert cloud.calls("queued-resources create") == 1
    assert cloud.calls("queued-resources delete") == 0
    # The words reached the worker as they were given.
    assert (cloud.folder / "started-0").read_text().rstrip("\n") == " ".join(PRETRAIN[1:])


def test_unusable_flags_are_not_tried_again(cloud):
    code, said = cloud.run("2", "0")
    assert code == 2 and "exit code 2" in said
    assert cloud.starts() == 1


def test_one_worker_with_2_is_enough_and_the_others_are_stopped(cloud):
    code, _ = cloud.run("waits 2", "0")
    assert code == 2
    assert cloud.starts() == 1
    assert (cloud.folder / "saved").read_text() == "0\n"


def test_a_clean_interrupt_starts_again_on_the_same_pod(cloud):
    code, _ = cloud.run("130", "130", "0", flags=["--max_failures=0"])
    assert code == 0
    assert cloud.starts(0) == cloud.starts(1) == 3
    assert cloud.calls("queued-resources create") == 1


@pytest.mark.parametrize("how", ["preempted", "node_preempted", "late"])
def test_a_preempted_pod_is_asked_for_again_and_the_same_command_starts(cloud, how):
    flags = ["--max_failures=0", f"--poll_seconds={int(how == 'late')}"]
    code, said = cloud.run(how, "0", flags=flags)
    assert code == 0 and "starting it again" in said
    assert cloud.calls("queued-resources delete") == 1
    assert cloud.calls("queued-resources create") == 2
    first, second = (cloud.folder / "started-0").read_text().splitlines()
    assert first == second


def test_failures_are_tried_again_so_often_and_no_more(cloud):
    code, said = cloud.run("1 0", "137", "0", flags=["--max_failures=2"])
    assert code == 0 and cloud.starts() == 3
    assert said.count("failed on a worker") == 2


def test_a_run_that_fails_for_good_ends_with_1(cloud):
    code, _ = cloud.run("1", "1", "1", "0", flags=["--max_failures=1"])
    assert code == 1 and cloud.starts() == 2


def test_a_pod_that_has_to_be_waited_for_is_waited_for(cloud):
    states = "ACCEPTED WAITING_FOR_RESOURCES PROVISIONING ACTIVE"
    (cloud.folder / "states_of_a_new_pod").write_text(f"{states}\n")
    code, said = cloud.run("0")
    assert code == 0
    assert re.findall(r"roberta: (\w+)", said) == states.split()[:-1]


def test_a_request_that_failed_is_made_again(cloud):
    (cloud.folder / "states").write_text("FAILED\n")
    code, _ = cloud.run("0")
    assert code == 0
    assert cloud.calls("queued-resources delete") == cloud.calls("queued-resources create") == 1


def test_stop_saves_and_is_not_followed_by_a_restart(cloud):
    run = cloud.start("run", "--", *PRETRAIN, plan=["waits", "0"])
    cloud.wait_for_start()
    cloud.stop()
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130 and "the same command goes on" in said
    assert cloud.starts() == 1
    assert sorted((cloud.folder / "saved").read_text()) == ["\n", "\n", "0", "1"]


def test_a_run_outlives_its_watcher_and_can_be_watched_again(cloud):
    first = cloud.start("run", "--", *PRETRAIN, plan=["waits", "0"])
    cloud.wait_for_start()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = cloud.start("run", "--", *PRETRAIN)
    line = second.stderr.readline()
    while "already" not in line:
        assert line, "it was started a second time"
        line = second.stderr.readline()
    cloud.stop()
    second.communicate(timeout=30)
    assert second.returncode == 130 and cloud.starts() == 1


def test_without_access_it_ends_with_the_words_of_gcloud(cloud):
    cloud.program("bin/gcloud", "#!/bin/sh\necho 'You do not have permission' >&2; exit 1")
    code, said = cloud.run("0")
    assert code == 1 and "You do not have permission" in said
