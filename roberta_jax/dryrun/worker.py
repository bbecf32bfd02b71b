"""Starts the program that compiles, in the environment of a topology; brings its result home."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from roberta_jax.config import PretrainConfig, to_dict
from roberta_jax.dryrun.result import Result, result_from
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.errors import MachineError, UserError

# Where there is no limit, microbatches are chosen as for a CPU anyway. JSON has no infinity.
_NO_LIMIT_BYTES = 2**62


def compile_for(config: PretrainConfig, topology: Topology, memory_bytes: float) -> Result:
    """Compiles a run for a topology, in a process of its own.

    Args:
      config: the run.
      topology: its devices.
      memory_bytes: of a device; infinity is no limit.

    Raises:
      UserError: libtpu is missing, or the run could not begin on such devices.
      MachineError: the compiler itself failed.
    """
    if topology.chip is not None and importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={topology.name} needs libtpu, the compiler for TPUs, which is not "
            "installed. No TPU is needed: pip install 'roberta-jax[tpu]'."
        )
    request = {
        "config": to_dict(config),
        "topology": topology.name,
        "memory_bytes": min(memory_bytes, _NO_LIMIT_BYTES),
    }
    environment = _environment(topology)
    with tempfile.TemporaryDirectory() as folder:
        # libtpu writes logs of its own, which would stay.
        environment.setdefault("TPU_LOG_DIR", folder)
        path = Path(folder) / "result.json"
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "roberta_jax.dryrun.compile", str(path)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                text=True,
            )
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # It has ended; its log says why.
                    process.stdin.write(json.dumps(request) + "\n")
                    process.stdin.flush()
                process.wait()
            finally:  # Interrupted, too: the compiler must not go on, nor write to the folder.
                process.kill()
                process.wait()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        if not path.exists():
            raise MachineError(
                f"The compiler for {topology.name} ended with code {process.returncode}, and said: "
                f"{_last_words(log.read_text(errors='replace'))}"
            )
        answer = json.loads(path.read_text())
    if "error" in answer:
        raise UserError(answer["error"])
    return result_from(answer["result"])


def _environment(topology: Topology) -> dict[str, str]:
    """This process's, with what the topology wants."""
    environment = dict(os.environ)
    for name, value in topology.environment().items():
        # Of two flags that contradict, the last one counts: the number of fake devices is ours,
        # what is said to libtpu the user's.
        if name == "XLA_FLAGS":
            value = f"{environment.get(name, '')} {value}"
        if name == "LIBTPU_INIT_ARGS":
            value = f"{value} {environment.get(name, '')}"
        environment[name] = value.strip()
    return environment


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if signals := [line for line in lines if line.startswith("*** SIG")]:
        return signals[0]  # What libtpu says after it is about its own crash report.
    return " ".join(lines[-3:])[-600:]
