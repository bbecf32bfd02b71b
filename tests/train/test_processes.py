"""Whole runs of several processes on this machine, connected as hosts are: `roberta-jax pretrain`.

Eight devices in all, whatever the number of processes, so that the same programs run.
"""

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.errors import INTERRUPTED
from roberta_jax.train.pretrain import pretrain
from tests.parallel.test_rendezvous import free_port
from tests.train import runs

pytestmark = pytest.mark.slow

DEVICES = 8
HEARTBEAT_SECONDS = 10


@dataclasses.dataclass
class Ended:
    """How a process of a run ended."""

    code: int
    said: str
    complaints: str

    def own_words(self):
        """Complaints without what libraries log."""
        return [line for line in self.complaints.splitlines() if line.startswith("roberta-jax")]


class Run:
    """The processes of one run."""

    def __init__(self, config, workdirs, folder, programs, *, flags=(), own_flags=None):
        folder.mkdir(exist_ok=True)
        file = runs.write_config_file(folder / "recipe.py", config)
        count, address = len(workdirs), f"127.0.0.1:{free_port()}"
        kept = [word for word in os.environ["XLA_FLAGS"].split() if "device_count" not in word]
        environment = {
            **os.environ,
            "XLA_FLAGS": " ".join(
                [*kept, f"--xla_force_host_platform_device_count={DEVICES // count}"]
            ),
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.processes, self.logs = [], []
        for number, workdir in enumerate(workdirs):
            log = folder / f"{number}.out"
            self.logs.append(log)
            with log.open("w") as out, (folder / f"{number}.err").open("w") as err:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "roberta_jax.cli.main", "pretrain"),
                        *(f"--config={file}", f"--workdir={workdir}"),
                        *(f"--coordinator_address={address}", f"--num_processes={count}"),
                        *(f"--process_id={number}", f"--heartbeat_timeout={HEARTBEAT_SECONDS}"),
                        *("--start_timeout=120", *flags, *(own_flags or {}).get(number, ())),
                    ],
                    stdout=out,
                    stderr=err,
                    env=environment,
                )
            self.processes.append(process)

    def wait_for_step(self, number):
        """Returns when the log says that step `number` is done."""
        deadline = time.monotonic() + 400
        while not re.search(rf"^step {number}/", self.logs[0].read_text(), re.MULTILINE):
            assert self.processes[0].poll() is None and time.monotonic() < deadline, self.ended()
            time.sleep(0.1)

    def ended(self, timeout=400):
        """How each process ended."""
        try:
            for process in self.processes:
                process.wait(timeout)
        finally:
            for process in self.processes:
                process.kill()
        return [
            Ended(process.returncode, log.read_text(), log.with_suffix(".err").read_text())
            for process, log in zip(self.processes, self.logs, strict=True)
        ]


@pytest.fixture
def start(tmp_path, programs):
    """A function (config, workdir, count, …) → Run; what is left of it ends with the test."""
    started = []

    def start(config, workdir, count, **options):
        workdirs = workdir if isinstance(workdir, list) else [workdir] * count
        folder = tmp_path / f"processes-{len(started)}"
        started.append(Run(config, workdirs, folder, programs, **options))
        return started[-1]

    yield start
    for run in started:
        for process in run.processes:
            process.kill()
            process.wait()


def assert_close(workdir, other):
    """The records of two runs that added up in another order agree."""
    lines, others = runs.lines_of(workdir), runs.lines_of(other)
    assert [(line["kind"], line["step"]) for line in lines] == [
        (line["kind"], line["step"]) for line in others
    ]
    for line, wanted in zip(lines, others, strict=True):
        assert line.keys() == wanted.keys()
        for name, value in wanted.items():
            if isinstance(value, float):
                assert line[name] == pytest.approx(value, rel=3e-5), (line["step"], name)
            else:
                assert line[name] == value


@pytest.mark.parametrize("count", [2, 4])
def test_a_run_of_processes_is_the_run_of_one(dataset, complete, start, tmp_path, count):
    config, workdir = runs.tiny_config(dataset), tmp_path / "run"
    ended = start(config, workdir, count).ended()
    assert [one.code for one in ended] == [0] * count, ended
    assert f"devices: 8 cpu of {count} processes (data 8" in ended[0].said
    assert "done: 20 steps" in ended[0].said
    # The first speaks, the others keep quiet (but for their collectives' library).
    for one in ended[1:]:
        assert not re.search(r"^(encoder|data|devices|compiled|step|done)", one.said, re.MULTILINE)
    assert all(one.own_words() == [] for one in ended)
    assert_close(workdir, complete)
    assert runs.steps_of(workdir) == runs.steps_of(complete)
    state, record = runs.restored(workdir, 20, config)
    wanted, _ = runs.restored(complete, 20, config)
    for path, value in wanted.items():
        np.testing.assert_allclose(state[path], value, rtol=1e-3, atol=2e-5, err_msg=path)
    assert record["examples_seen"] == 320
    assert sorted(path.name for path in workdir.iterdir()) == sorted(
        path.name for path in complete.iterdir()
    )


def test_weights_split_over_processes(dataset, complete, start, tmp_path):
    """Two processes of 4 devices: fsdp x tensor cross them, so both read all rows."""
    config = runs.tiny_config(dataset, mesh__data=1, mesh__fsdp=4, mesh__tensor=2)
    ended = start(config, tmp_path / "run", 2).ended()
    assert [one.code for one in ended] == [0, 0], ended
    assert_close(tmp_path / "run", complete)


def test_a_signal_to_any_process_stops_all_and_any_number_goes_on(
    dataset, complete, start, tmp_path
):
    config, workdir = runs.tiny_config(dataset, train__duration="300 steps"), tmp_path / "run"
    run = start(config, workdir, 2)
    run.wait_for_step(9)
    run.processes[1].send_signal(signal.SIGTERM)
    ended = run.ended()
    assert [one.code for one in ended] == [INTERRUPTED] * 2, ended
    stopped = runs.steps_of(workdir)[-1]
    assert f"interrupted: step {stopped} is saved; the same command goes on" in ended[0].said
    assert 9 <= stopped < 300

    # On four processes, then on one, to the same end as a run that nothing stopped.
    longer = runs.tiny_config(dataset, train__duration=f"{stopped + 7} steps")
    ended = start(longer, workdir, 4).ended()
    assert [one.code for one in ended] == [0] * 4, ended
    assert f"going on from step {stopped}" in ended[0].said
    longest = runs.tiny_config(dataset, train__duration=f"{stopped + 13} steps")
    assert pretrain(longest, workdir) == 0
    seen = [line["examples_seen"] for line in runs.lines_of(workdir) if line["kind"] == "train"]
    steps = [line["step"] for line in runs.lines_of(workdir) if line["kind"] == "train"]
    assert seen == [16 * step for step in steps]
    assert steps[-1] == stopped + 13 and set(range(3, stopped, 3)) <= set(steps)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_process_is_killed_the_others_end_and_say_so(dataset, start, tmp_path, victim):
    config, workdir = runs.tiny_config(dataset, train__duration="100000 steps"), tmp_path / "run"
    run = start(config, workdir, 2)
    run.wait_for_step(12)
    run.processes[victim].kill()
    began = time.monotonic()
    ended = run.ended()
    # Within the time limit, and what a busy machine needs.
    assert time.monotonic() - began < 2.5 * HEARTBEAT_SECONDS
    assert ended[victim].code == -signal.SIGKILL
    other = ended[1 - victim]
    assert other.code == 1
    (line,) = other.own_words()
    assert f"process {victim} on {socket.gethostname()}" in line
    assert f"process {1 - victim} on {socket.gethostname()} ends: " in line
    assert line.endswith(
        "Run the same command again on all processes, also on another number of them: it goes on "
        f"from the newest checkpoint in {workdir / 'checkpoints'}"
    )
    newest = runs.steps_of(workdir)[-1]
    shorter = runs.tiny_config(dataset, train__duration=f"{newest + 2} steps")
    assert pretrain(shorter, workdir) == 0


def prepared_again(dataset, folder):
    """Other rows with the same tokenizer."""
    (folder / "text.txt").write_text(runs.make_text(seed=1))
    prepare(
        inputs=[str(folder / "text.txt")],
        tokenizer_folder=dataset / "tokenizer",
        output=folder / "other",
        settings=PrepareSettings(
            sequence_length=runs.SEQUENCE_LENGTH, validation_fraction=0.1, rows_per_shard=100
        ),
        say=lambda line: None,
    )
    return folder / "other"


def test_processes_with_other_settings_or_data_are_named_before_the_first_step(
    dataset, start, tmp_path
):
    config, workdir = runs.tiny_config(dataset), tmp_path / "run"
    host, other = socket.gethostname(), prepared_again(dataset, tmp_path)
    for flag, message in (
        (
            "--config.seed=4",
            f"The processes do not have the same settings: on process 1 on {host}, config.seed is "
            f"'4' there and '3' on process 0 on {host}. Start all of them with the same command.",
        ),
        (
            f"--config.data.path={other}",
            f"The processes do not have the same data: on process 1 on {host}, the fingerprint of "
            "dataset 1 is ",
        ),
        (f"--config.data.path={tmp_path / 'none'}", f"{tmp_path / 'none'}"),
    ):
        ended = start(config, workdir, 2, own_flags={1: [flag]}).ended()
        assert [one.code for one in ended] == [2, 2], ended
        for one in ended:
            (line,) = one.own_words()
            assert message in line
        assert not workdir.exists()
    assert f"On process 1 on {host}: " in ended[0].own_words()[0]


def test_the_same_data_may_lie_elsewhere_on_each_host(dataset, complete, start, tmp_path):
    shutil.copytree(dataset, tmp_path / "copy")
    run = start(
        runs.tiny_config(dataset),
        tmp_path / "run",
        2,
        own_flags={1: [f"--config.data.path={tmp_path / 'copy'}"]},
    )
    assert [one.code for one in run.ended()] == [0, 0]
    assert_close(tmp_path / "run", complete)


def test_a_workdir_that_is_not_shared_is_refused(dataset, start, tmp_path):
    run = start(runs.tiny_config(dataset), [tmp_path / "one", tmp_path / "two"], 2)
    ended = run.ended()
    assert [one.code for one in ended] == [2, 2], ended
    for one in ended:
        (line,) = one.own_words()
        assert "is not the folder that the first process writes to" in line
    assert not (tmp_path / "two").exists()


def test_damage_that_one_process_meets_is_damage_for_all(dataset, complete, start, tmp_path):
    """Weights split over the processes: each reads other parts, and meets other damage."""
    config = runs.tiny_config(dataset, mesh__data=1, mesh__fsdp=8, train__duration="20 steps")
    workdir = runs.workdir_copy(complete, tmp_path / "run")
    runs.damage(workdir, 20)
    ended = start(config, workdir, 2).ended()
    assert [one.code for one in ended] == [0, 0], ended
    assert "It was set aside as 20.damaged" in ended[0].said
    assert "going on from step 15" in ended[0].said
    assert_close(workdir, complete)
