"""Who takes part in a run of several processes: from flags, Slurm, Open MPI or a TPU pod."""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

from roberta_jax.errors import UserError

MODES = ("auto", "off")
START_TIMEOUT_SECONDS = 300.0
HEARTBEAT_TIMEOUT_SECONDS = 100.0
# Ports for jobs that name none: the same for all processes of a job, others for another job.
_FIRST_PORT, _NUM_PORTS = 61440, 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Launch:
    """One process among several.

    Attributes:
      source: what told it: "flags", "Slurm", "Open MPI" or "TPU".
      address: host:port of process 0, where all meet; "" where `processes` asks jax (TPU).
      num_processes: of the run; 0 where it asks jax.
      process_id: of this one, from 0.
      local_devices: the GPUs of the host that this process takes; (): all of them.
    """

    source: str
    address: str = ""
    num_processes: int = 0
    process_id: int = 0
    local_devices: tuple[int, ...] = ()


def find_launch(
    mode: str = "auto",
    *,
    address: str = "",
    num_processes: int = 0,
    process_id: int = -1,
    environment: Mapping[str, str] = os.environ,
    tpu: bool | None = None,
) -> Launch | None:
    """How this process was started.

    What is given explicitly comes before what the environment says.

    Args:
      mode: "auto", or "off" for one process whatever the environment says.
      address: host:port of process 0; "" if not given.
      num_processes: of the run; 0 if not given.
      process_id: of this process; -1 if not given.
      environment: variables, in which Slurm and Open MPI say what they started.
      tpu: whether this machine has TPUs; None looks.

    Returns:
      None for a process by itself.

    Raises:
      UserError: the flags are not complete, or contradict each other.
    """
    given = bool(address) or num_processes > 0 or process_id >= 0
    if mode not in MODES:
        raise UserError(f"--distributed={mode} is not understood. Use {' or '.join(MODES)}.")
    if mode == "off":
        if given:
            raise UserError(
                "--distributed=off starts one process, and --coordinator_address, --num_processes "
                "or --process_id were given too. Leave one or the other away."
            )
        return None
    # mpirun may itself have been started by srun, once per node.
    found = _open_mpi(environment) or _slurm(environment)
    if not given:
        if found is None:
            return _tpu(environment) if (has_tpu() if tpu is None else tpu) else None
        if not found.address:
            raise UserError(
                f"{found.source} started {found.num_processes} processes and does not say where "
                "the first one runs. Add --coordinator_address=HOST:PORT, the host of process 0 "
                "and a free port there, or --distributed=off for runs of one process each."
            )
        return found
    told = found or Launch("flags")
    launch = dataclasses.replace(
        told,
        address=address or told.address,
        num_processes=num_processes or told.num_processes,
        process_id=process_id if process_id >= 0 else told.process_id,
    )
    if found is None and not (address and num_processes > 0 and process_id >= 0):
        raise UserError(
            "A run of several processes needs all three of --coordinator_address=HOST:PORT, "
            f"--num_processes=N and --process_id=I; given were {address or 'no address'}, "
            f"{num_processes or 'no number'} and {process_id if process_id >= 0 else 'no id'}. "
            "Under Slurm (srun), Open MPI (mpirun) or on a TPU pod none is needed."
        )
    host, _, port = launch.address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator_address={launch.address} is no address. Give the host of process 0 and "
            "a free port there, such as 10.0.0.1:8476; the same for all processes."
        )
    if not 0 <= launch.process_id < launch.num_processes:
        raise UserError(
            f"--process_id={launch.process_id} is none of --num_processes={launch.num_processes}: "
            f"processes count from 0 to {launch.num_processes - 1}."
        )
    return launch


def _slurm(environment: Mapping[str, str]) -> Launch | None:
    """What `srun` started; None outside a job's step, and for a single task."""
    # A batch script, or a shell on a node, is no task of a step that has several.
    nodes, process = (environment.get(name) for name in ("SLURM_STEP_NODELIST", "SLURM_PROCID"))
    count = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS")
    if not (nodes and process and count) or int(count) <= 1:
        return None
    first = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)  # node[07-12,20],other → node07
    assert first is not None, nodes
    port = environment.get("JAX_COORDINATOR_PORT") or _port(environment.get("SLURM_JOB_ID", "0"))
    tasks = _tasks_of_node(
        environment.get("SLURM_STEP_TASKS_PER_NODE", ""), int(environment.get("SLURM_NODEID", 0))
    )
    return Launch(
        "Slurm",
        f"{first[1]}{first[2] or ''}:{port}",
        int(count),
        int(process),
        _own_devices(tasks, environment.get("SLURM_LOCALID", "0")),
    )


def _tasks_of_node(text: str, node: int) -> int:
    """Tasks of a node by Slurm's way of writing them: "2(x3),1" is 2, 2, 2, 1; 1 if not said."""
    tasks: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        tasks += [int(count)] * int(times or 1)
    return tasks[node] if node < len(tasks) else 1


def _open_mpi(environment: Mapping[str, str]) -> Launch | None:
    """What `mpirun` started; without an address where Open MPI (since 5) doesn't say it."""
    count = int(environment.get("OMPI_COMM_WORLD_SIZE", 1))
    if count <= 1:
        return None
    # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911 or …;tcp6://[fe80::b9b,2620::2]:43370
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    host = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", uri)
    address = ""
    if host is not None:
        port = environment.get("JAX_COORDINATOR_PORT") or _port(uri.partition(".")[0], 2**12)
        address = f"{host[1] or f'[{host[2]}]'}:{port}"
    return Launch(
        "Open MPI",
        address,
        count,
        int(environment["OMPI_COMM_WORLD_RANK"]),
        _own_devices(
            int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1)),
            environment.get("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
        ),
    )


def _tpu(environment: Mapping[str, str]) -> Launch | None:
    """What jax finds out about a TPU pod by itself; None where the environment tells of one host.

    On Kubernetes, the environment has all hosts; on a TPU VM, only Google's metadata server knows.
    """
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    slices = int(environment.get("MEGASCALE_NUM_SLICES") or 1)
    alone = hosts is not None and len(hosts.split(",")) * slices == 1
    return None if alone else Launch("TPU")


def _port(job: str, step: int = 1) -> int:
    return _FIRST_PORT + (int(job) // step if job.isdecimal() else 0) % _NUM_PORTS


def _own_devices(processes_of_host: int, local_id: str) -> tuple[int, ...]:
    """One GPU for each of several processes of a host; all of them for one process."""
    return (int(local_id),) if processes_of_host > 1 else ()


def has_tpu() -> bool:
    """Whether this machine has TPUs and the library for them, without taking them."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if (platforms and "tpu" not in platforms) or not importlib.util.find_spec("libtpu"):
        return False
    return Path("/dev/accel0").exists() or (
        # Chips since v5p; other devices may be passed through in the same way.
        Path("/dev/vfio/0").exists() and not Path("/dev/nvidia0").exists()
    )
