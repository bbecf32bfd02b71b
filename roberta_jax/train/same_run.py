"""Whether all processes of a run were given the same and see the same, before it begins."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from roberta_jax import config as config_lib
from roberta_jax.config import PretrainConfig
from roberta_jax.errors import DISK_ERRORS, MachineError, UserError
from roberta_jax.parallel.processes import all_or_none, check_same, from_first, is_first, on_first
from roberta_jax.train import workdir as workdir_lib
from roberta_jax.train.microbatches import with_microbatches
from roberta_jax.train.plan import Plan
from roberta_jax.train.run_data import RunData
from roberta_jax.version import __version__

# A network file system may show a new file some seconds late.
_SHARED_SECONDS = 30.0


def check_same_run(config: PretrainConfig, data: RunData, *, resume: str, init_from: str) -> None:
    """Refuses processes with other settings, other data or other software than the first.

    Datasets may lie elsewhere on each host, if they are the same.

    Raises:
      UserError: on all processes; it names one that differs, and how.
    """
    if jax.process_count() == 1:
        return
    check_same(
        "software",
        _software(),
        "Start all of them from the same environment, on the same kind of machine.",
    )
    check_same(
        "data",
        {
            f"the fingerprint of dataset {number}": fingerprint
            for number, fingerprint in enumerate(data.fingerprints().values(), start=1)
        },
        "Copy the dataset to all hosts, or put it on a file system that they share.",
    )
    values: dict[str, Any] = config_lib.field_paths(config)
    settings = {
        f"config.{name}": str(value)
        for name, value in values.items()
        if name.rpartition(".")[2] != "path"
    }
    check_same(
        "settings",
        {**settings, "--resume": resume, "--init_from": init_from},
        "Start all of them with the same command.",
    )


def _software() -> dict[str, Any]:
    """What decides the program that a process compiles, beside the settings."""
    package, code = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    devices = jax.local_devices()
    return {
        "roberta_jax": f"{__version__} ({code.hexdigest()[:8]})",
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")},
        **{name: os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")},
        "the kind of devices": devices[0].device_kind,
        "the number of devices": len(devices),
    }


def with_same_microbatches(config: PretrainConfig, plan: Plan, mesh: Mesh) -> Plan:
    """The plan with the microbatches that the first process chooses by the memory it has."""
    numbers = from_first(
        "microbatches",
        lambda: [phase.num_microbatches for phase in with_microbatches(config, plan, mesh).phases],
    )
    phases = tuple(
        dataclasses.replace(phase, num_microbatches=number)
        for phase, number in zip(plan.phases, numbers, strict=True)
    )
    return dataclasses.replace(plan, phases=phases)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of `workdir`: its first process has the lock.

    Raises:
      UserError: on all processes, if another run has it.
    """
    with contextlib.ExitStack() as stack:
        on_first("lock", lambda: stack.enter_context(workdir_lib.locked(workdir)))
        yield


def check_shared_folder(workdir: Path, *, seconds: float = _SHARED_SECONDS) -> None:
    """Refuses a workdir that is another folder on another host.

    Raises:
      UserError: on all processes; it names one that does not see what the first one wrote.
    """
    if jax.process_count() == 1:
        return
    name = from_first("name", lambda: f".shared-{secrets.token_hex(8)}")
    mark = workdir / name
    on_first("mark", lambda: _touch(mark))

    def look() -> None:
        deadline = time.monotonic() + seconds
        while name not in _names(workdir):
            if time.monotonic() > deadline:
                raise UserError(
                    f"--workdir={workdir} is not the folder that the first process writes to. All "
                    "processes need one that they share: on NFS, Lustre, or a mounted bucket."
                )
            time.sleep(0.1)

    try:
        all_or_none("shared folder", look)
    finally:
        if is_first():
            mark.unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    """What lies in a folder, asked of the file server anew; nothing where it cannot be seen."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _touch(mark: Path) -> None:
    try:
        mark.touch()
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise MachineError(
            f"--workdir={mark.parent} cannot be written to: {error.strerror}. Choose another "
            "folder, or make room."
        ) from error
