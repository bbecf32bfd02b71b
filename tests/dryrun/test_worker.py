"""The process that compiles: its environment, its result, its end."""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from roberta_jax.config import to_dict
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.dryrun.worker import compile_for
from roberta_jax.errors import MachineError, UserError
from tests.dryrun.cases import tiny_config


@pytest.mark.slow
def test_a_process_of_its_own_has_the_devices_that_were_asked_for():
    before = dict(os.environ)
    result = compile_for(tiny_config(), parse_topology("cpu:2"), math.inf)  # Here are 8.
    assert result.mesh == {"data": 2, "fsdp": 1, "context": 1, "tensor": 1}
    assert result.fits(math.inf) and not result.fits(1000)
    assert result.phases[0].compiled.collectives
    assert dict(os.environ) == before


def test_flags_of_the_user_stay(monkeypatch):
    """Of two that contradict, the last counts: libtpu's are the user's, the devices are ours."""
    given = []

    class Seen(subprocess.Popen):
        def __init__(self, command, *, env, **settings):
            given.append(env)
            super().__init__(["true"], env=env, **settings)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--fibers_default_thread_stack_size=1 --other=2")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_more=1")
    for name in ("v5e:4x4", "cpu:2"):
        with pytest.raises(MachineError):
            compile_for(tiny_config(), parse_topology(name), 2**40)
    tpu, cpu = given
    assert tpu["LIBTPU_INIT_ARGS"].endswith(
        "=4194304 --fibers_default_thread_stack_size=1 --other=2"
    )
    assert tpu["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    assert cpu["XLA_FLAGS"].endswith("=8 --xla_more=1 --xla_force_host_platform_device_count=2")
    assert cpu["LIBTPU_INIT_ARGS"] == os.environ["LIBTPU_INIT_ARGS"]


def test_what_it_refuses_arrives_as_one_paragraph():
    with pytest.raises(UserError, match="cannot be split over 3 devices") as caught:
        compile_for(tiny_config(), parse_topology("cpu:3"), math.inf)
    assert not isinstance(caught.value, MachineError)


def test_its_crash_is_told_with_its_last_words(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_no_such_flag=1")
    with pytest.raises(MachineError, match="ended with code .*xla_no_such_flag") as caught:
        compile_for(tiny_config(), parse_topology("cpu:2"), math.inf)
    assert "\n" not in str(caught.value)


def test_it_ends_with_the_command_that_started_it(tmp_path):
    path = tmp_path / "result.json"
    request = {"config": to_dict(tiny_config()), "topology": "cpu:2", "memory_bytes": 2**40}
    done = subprocess.run(
        [sys.executable, "-m", "roberta_jax.dryrun.compile", str(path)],
        input=json.dumps(request) + "\n",  # And then it is closed, as when a command is killed.
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and not path.exists()


def test_an_interruption_ends_the_compiler_and_leaves_nothing(tmp_path, monkeypatch):
    """Even one that is stuck in native code, where neither a signal nor a thread is heard."""
    started = []

    class Stuck(subprocess.Popen):
        def __init__(self, command, **settings):
            started.append(self)
            super().__init__(["sleep", "60"], **settings)

        def wait(self, timeout=None):
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return super().wait(timeout)

        interrupted = False

    monkeypatch.setattr(subprocess, "Popen", Stuck)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        compile_for(tiny_config(), parse_topology("cpu:2"), math.inf)
    (process,) = started
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_is_told_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.* pip install 'roberta-jax\[tpu\]'"):
        compile_for(tiny_config(), parse_topology("v5e:4x4"), math.inf)
