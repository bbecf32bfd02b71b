"""The manifests of tools/launch/gke: their structure, their sizes and the commands in them."""

import math
import pathlib

import pytest
import yaml

from tests.tools.launch.commands import checked_pretrain

ROOT = pathlib.Path(__file__).parents[3]
FOLDER = ROOT / "tools" / "launch" / "gke"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
JOBSETS = [path for path in MANIFESTS if path.stem.startswith("jobset")]

KINDS = {"jobset.x-k8s.io/v1alpha2": "JobSet", "v1": "PersistentVolumeClaim"}
# Chips of a host of a slice with several hosts, and the axes of its topologies, by GKE's name.
TPU_HOSTS = {
    "tpu-v5-lite-podslice": (4, 2),
    "tpu-v5p-slice": (4, 3),
    "tpu-v6e-slice": (4, 2),
}


def loaded(path):
    (document,) = yaml.safe_load_all(path.read_text())
    return document


def job_of(path):
    (replicated,) = loaded(path)["spec"]["replicatedJobs"]
    return replicated, replicated["template"]["spec"]


def container_of(path):
    (container,) = job_of(path)[1]["template"]["spec"]["containers"]
    return container


def named(path):
    return path.stem


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_a_manifest_is_of_a_known_kind(path):
    document = loaded(path)
    assert KINDS[document["apiVersion"]] == document["kind"]
    assert document["metadata"]["name"] and document["spec"]


def test_there_is_a_job_for_tpus_and_one_for_gpus():
    resources = {
        resource for path in JOBSETS for resource in container_of(path)["resources"]["limits"]
    }
    assert resources == {"google.com/tpu", "nvidia.com/gpu"}


def test_the_hosts_of_the_tpu_job_are_those_of_its_topology():
    replicated, job = job_of(FOLDER / "jobset.yaml")
    selector = job["template"]["spec"]["nodeSelector"]
    chips_of_host, num_axes = TPU_HOSTS[selector["cloud.google.com/gke-tpu-accelerator"]]
    sizes = [int(size) for size in selector["cloud.google.com/gke-tpu-topology"].split("x")]
    assert len(sizes) == num_axes
    limit = container_of(FOLDER / "jobset.yaml")["resources"]["limits"]["google.com/tpu"]
    assert limit == chips_of_host
    assert replicated["replicas"] == 1, "of slices; the recipe is for one"
    assert job["parallelism"] * limit == math.prod(sizes)
    # The recipe's card names the topology.
    config = container_of(FOLDER / "jobset.yaml")["args"][1].removeprefix("--config=")
    topology = selector["cloud.google.com/gke-tpu-topology"]
    assert f"--topology=v5e:{topology}" in (ROOT / config).read_text()


@pytest.mark.parametrize("path", JOBSETS, ids=named)
def test_every_host_runs_once_and_a_failure_is_one_of_the_whole_job(path):
    _, job = job_of(path)
    assert job["parallelism"] == job["completions"] > 1
    assert job["completionMode"] == "Indexed"
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy wants it.


@pytest.mark.parametrize("path", JOBSETS, ids=named)
def test_exit_code_2_fails_at_once_and_everything_else_starts_again(path):
    _, job = job_of(path)
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    codes = rule["onExitCodes"]
    assert codes["containerName"] == container_of(path)["name"]
    assert (codes["operator"], codes["values"]) == ("In", [2])
    policy = loaded(path)["spec"]["failurePolicy"]
    assert policy["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    assert policy["maxRestarts"] >= 10


@pytest.mark.parametrize("path", JOBSETS, ids=named)
def test_pretrain_accepts_the_arguments(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    container = container_of(path)
    assert "command" not in container, "the image's entry point is roberta-jax"
    # Kubernetes puts the pod's number in.
    flags = checked_pretrain([word.replace("$(PROCESS_ID)", "1") for word in container["args"]])
    # What all hosts see is mounted where the arguments look for it.
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in job_of(path)[1]["template"]["spec"]["volumes"]}
    assert set(mounts.values()) == set(volumes)
    claim = volumes[mounts["/mnt/shared"]]["persistentVolumeClaim"]["claimName"]
    for place in (flags.workdir, flags.config.data.path):
        assert place.startswith("/mnt/shared/")
    volume = loaded(FOLDER / "shared_volume.yaml")
    assert claim == volume["metadata"]["name"]
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_gpu_job_tells_every_process_who_and_where_it_is():
    path = FOLDER / "jobset_gpu.yaml"
    document, (replicated, job) = loaded(path), job_of(path)
    container = container_of(path)
    flags = dict(word.split("=", 1) for word in container["args"] if "=" in word)
    assert int(flags["--num_processes"]) == job["parallelism"]
    assert flags["--process_id"] == "$(PROCESS_ID)"
    environment = {variable["name"]: variable for variable in container["env"]}
    index = environment["PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    host, port = flags["--coordinator_address"].split(":")
    name, subdomain = document["metadata"]["name"], document["spec"]["network"]["subdomain"]
    assert host == f"{name}-{replicated['name']}-0-0.{subdomain}"
    assert int(port) in {entry["containerPort"] for entry in container["ports"]}


@pytest.mark.parametrize("path", JOBSETS, ids=named)
def test_the_user_is_that_of_the_images(path):
    context = job_of(path)[1]["template"]["spec"]["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == context["fsGroup"] == 1000
