"""What is tried, and in which order it is told."""

import math

import pytest

from roberta_jax.dryrun.compile import dry_run
from roberta_jax.dryrun.search import found_lines, meshes, rank, search
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.errors import MachineError, UserError
from tests.dryrun.cases import phase_result, result, tiny_config

V5E = parse_topology("v5e:4x4")


def made_up(config, topology, memory_bytes):
    """32 GiB of activations without rematerialization, 16 with some, 8 with all; by microbatches.

    What is computed again takes time, a split model and each microbatch too.
    """
    del memory_bytes
    parts = config.train.num_microbatches or 2
    policy = config.encoder.rematerialization
    peak = 3 + {"none": 32, "dots": 16, "full": 8}[policy] / parts
    again = {"none": 0.0, "dots": 0.1, "full": 0.3}[policy]
    slower = 1 + again + 0.01 * parts + config.mesh.fsdp / 100 + config.mesh.tensor / 10
    phase = phase_result(
        peak=peak,
        num_microbatches=parts,
        batch_size=config.train.batch_size,
        computed_flops=slower * 16 * 197e12,
    )
    mesh = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    return result(phase, mesh=mesh, policy=policy)


def searched(compile_for, topology=V5E, **settings):
    said = []
    found = search(
        tiny_config(batch_size=256, **settings),
        topology,
        topology.memory_bytes,
        compile_for=compile_for,
        say=said.append,
    )
    return found, said


def test_the_least_microbatches_that_fit_are_kept_and_the_fastest_comes_first():
    found, said = searched(made_up)
    parts = [
        (each.result.rematerialization, each.result.phases[0].num_microbatches)
        for each in found
        if each.result.mesh["data"] == 16
    ]
    assert parts == [("none", 4), ("dots", 2), ("full", 1)]
    assert found[0].flags == (
        "--config.mesh.data=16 --config.mesh.fsdp=1 --config.mesh.tensor=1 "
        "--config.encoder.rematerialization=none --config.train.num_microbatches=4"
    )
    keys = [rank(each.result, V5E) for each in found]
    assert keys == sorted(keys)
    assert len(found) == 3 * len(meshes(16))
    assert "data 16 x fsdp 1 x tensor 1, none, 2 microbatches: 19.00 GiB, does not fit" in said
    assert all(each.result.fits(V5E.memory_bytes) for each in found)


def test_what_cannot_be_is_told_and_left_out():
    def refusing(config, topology, memory_bytes):
        if config.mesh.fsdp > 1:
            raise UserError("it cannot be split.")
        if config.encoder.rematerialization == "dots":
            raise MachineError("the compiler crashed.")
        return made_up(config, topology, memory_bytes)

    found, said = searched(refusing)
    assert {each.result.rematerialization for each in found} == {"none", "full"}
    assert {each.result.mesh["fsdp"] for each in found} == {1}
    assert sum("it cannot be split." in line for line in said) == 2, "once a mesh"
    assert any("dots: cannot be: the compiler crashed." in line for line in said)


def test_nothing_that_fits_is_a_result():
    def too_large(config, topology, memory_bytes):
        phase = phase_result(needed=100, batch_size=256, num_microbatches=1)
        return result(phase, mesh=(config.mesh.data, 1, 1))

    found, _ = searched(too_large)
    assert found == []
    assert "Nothing that was tried fits" in "".join(found_lines(found, V5E))


def test_the_table_has_times_where_there_are_rates():
    found, _ = searched(made_up)
    table = list(found_lines(found, V5E))
    assert table[1].startswith("  1. peak 11.00 GiB, ") and " h " in table[1]
    assert found[0].flags in table[1]
    cpu, _ = searched(made_up, parse_topology("cpu:16"))
    assert " to " not in list(found_lines(cpu, parse_topology("cpu:16")))[1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 16, 64, 256])
def test_every_mesh_fills_the_devices(count):
    tried = [(mesh.data, mesh.fsdp, mesh.tensor) for mesh in meshes(count)]
    assert all(math.prod(sizes) == count for sizes in tried)
    assert tried[0] == (count, 1, 1) and len(set(tried)) == len(tried)


@pytest.mark.slow
def test_a_real_search_on_four_fake_devices():
    topology = parse_topology("cpu:4")
    found = search(tiny_config(), topology, math.inf, compile_for=dry_run, say=lambda line: None)
    assert len(found) == 3 * len(meshes(4))
    keys = [rank(each.result, topology) for each in found]
    assert keys == sorted(keys)
    assert found[0].result.rematerialization == "none", "the least arithmetic"
