"""Environments as `srun`, `mpirun` and people make them."""

import pytest

from roberta_jax.errors import UserError
from roberta_jax.parallel.launch import Launch, find_launch

SLURM = {
    "SLURM_JOB_ID": "5321",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],other",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}


def find(environment=(), *, tpu=False, mode="auto", **given):
    return find_launch(mode, environment=dict(environment), tpu=tpu, **given)


def test_a_process_by_itself():
    assert find() is None
    assert find({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}) is None  # A batch script, no srun.
    assert find({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert find({"OMPI_COMM_WORLD_SIZE": "1"}) is None
    assert find(SLURM, mode="off") is None


def test_slurm_says_it_all():
    assert find(SLURM) == Launch("Slurm", f"gpu07:{61440 + 5321 % 4096}", 4, 2)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node001", "node001"), ("a,b", "a"), ("n[3,5-7]", "n3"), ("n-1-[08-10]", "n-1-08")],
)
def test_the_first_node_of_a_slurm_list(nodes, first):
    assert find({**SLURM, "SLURM_STEP_NODELIST": nodes}).address.split(":")[0] == first


@pytest.mark.parametrize(
    ("tasks", "node", "local_id", "devices"),
    [
        ("1(x4)", "3", "0", ()),
        ("8(x2)", "1", "5", (5,)),
        ("2,1(x2)", "0", "1", (1,)),
        ("2,1(x2)", "2", "0", ()),
        ("", "0", "0", ()),
    ],
)
def test_tasks_that_share_a_node_take_a_gpu_each(tasks, node, local_id, devices):
    found = find(
        {
            **SLURM,
            "SLURM_STEP_TASKS_PER_NODE": tasks,
            "SLURM_NODEID": node,
            "SLURM_LOCALID": local_id,
        }
    )
    assert found.local_devices == devices


def test_open_mpi_says_it_all_or_needs_the_address():
    port = 61440 + (1531576320 // 4096) % 4096
    assert find(OPEN_MPI) == Launch("Open MPI", f"10.96.0.1:{port}", 4, 3, (1,))
    six = {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1.0;tcp6://[fe80::b9b,2620::2]:43370"}
    assert find(six).address == f"[fe80::b9b]:{61440}"
    newer = {name: value for name, value in OPEN_MPI.items() if "uri" not in name}
    with pytest.raises(UserError, match=r"Open MPI started 4 .*--coordinator_address=HOST:PORT"):
        find(newer)
    assert find(newer, address="first:9000") == Launch("Open MPI", "first:9000", 4, 3, (1,))


def test_mpirun_inside_of_slurm_is_open_mpi():
    assert find(SLURM | OPEN_MPI) == find(OPEN_MPI)


def test_the_port_can_be_chosen():
    chosen = {"JAX_COORDINATOR_PORT": "7777"}
    assert find(SLURM | chosen).address == "gpu07:7777"
    assert find(OPEN_MPI | chosen).address == "10.96.0.1:7777"


def test_flags_come_first():
    given = {"address": "a:1", "num_processes": 3, "process_id": 0}
    assert find(**given) == Launch("flags", "a:1", 3, 0)
    assert find(SLURM, **given) == Launch("Slurm", "a:1", 3, 0)
    assert find(**given, tpu=True) == Launch("flags", "a:1", 3, 0)
    assert find(tpu=True) == Launch("TPU")


def test_a_tpu_host_by_itself_is_known_by_its_environment():
    assert find({"TPU_WORKER_HOSTNAMES": "localhost"}, tpu=True) is None
    assert find({"TPU_WORKER_HOSTNAMES": "a,b"}, tpu=True) == Launch("TPU")
    slices = {"TPU_PROCESS_ADDRESSES": "a:1", "MEGASCALE_NUM_SLICES": "2"}
    assert find(slices, tpu=True) == Launch("TPU")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "of"}, r"--distributed=of is not understood. Use auto or off"),
        ({"mode": "off", "process_id": 1}, r"--distributed=off starts one process"),
        ({"address": "a:1"}, r"all three .* given were a:1, no number and no id"),
        ({"num_processes": 2, "process_id": 0}, r"given were no address, 2 and 0"),
        ({"address": "a", "num_processes": 2, "process_id": 0}, r"=a is no address"),
        ({"address": "a:x", "num_processes": 2, "process_id": 0}, r"=a:x is no address"),
        ({"address": "a:70000", "num_processes": 2, "process_id": 0}, r"=a:70000 is no address"),
        (
            {"address": "a:1", "num_processes": 2, "process_id": 2},
            r"=2 is none of --num_proc.*to 1",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        find(**given)
