"""What is tried, and in which order it is told."""

import dataclasses
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from roberta_jax.config import PhaseConfig
from roberta_jax.dryrun.compile import dry_run
from roberta_jax.dryrun.result import State
from roberta_jax.dryrun.search import (
    best_first,
    found_lines,
    meshes,
    next_microbatches,
    rank,
    search,
)
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.errors import MachineError, UserError
from tests.dryrun.cases import GIB, phase_result, result, tiny_config

V5E = parse_topology("v5e:4x4")


def made_up(config, topology, memory_bytes):
    """32 GiB of activations without rematerialization, 16 with some, 8 with all; by microbatches.

    What is computed again takes time, a split model and each microbatch too.
    """
    del memory_bytes
    policy = config.encoder.rematerialization
    again = {"none": 0.0, "dots": 0.1, "full": 0.3}[policy]
    phases = []
    for number, phase in enumerate(config.phases or (None,)):
        parts = (phase or config.train).num_microbatches or 2
        peak = 3 + {"none": 32, "dots": 16, "full": 8}[policy] / parts
        slower = 1 + again + 0.01 * parts + config.mesh.fsdp / 100 + config.mesh.tensor / 10
        size = phase.batch_size if phase else config.train.batch_size
        phases.append(
            phase_result(
                peak=peak * (number + 1),
                num_microbatches=parts,
                microbatches_field=f"phases[{number}].num_microbatches"
                if phase
                else "train.num_microbatches",
                batch_size=size,
                computed_flops=slower * 16 * 197e12,
            )
        )
    mesh = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    return result(*phases, mesh=mesh, policy=policy)


def searched(compile_for, topology=V5E, phases=(), **settings):
    said, compiled = [], []

    def counted(config, *others):
        compiled.append(config)
        return compile_for(config, *others)

    config = dataclasses.replace(tiny_config(batch_size=256, **settings), phases=phases)
    found = search(config, topology, topology.memory_bytes, compile_for=counted, say=said.append)
    return best_first(found, topology), said, compiled


def test_the_least_microbatches_that_fit_are_kept_and_the_fastest_comes_first():
    found, said, _ = searched(made_up)
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
    name = "3 of 12: data 16 x fsdp 1 x tensor 1, rematerialization none"
    assert f"{name}: compiling ..." in said
    assert f"{name}, microbatches 2: 19.00 GiB, does not fit (1 min 01 s)" in said
    assert all(each.result.fits(V5E.memory_bytes) for each in found)


def test_every_phase_gets_the_least_of_its_own():
    """The second one needs twice as much."""
    phases = (
        PhaseConfig(duration="90%", batch_size=64),
        PhaseConfig(duration="10%", batch_size=256),
    )
    found, _, _ = searched(made_up, phases=phases)
    (dots,) = (
        each
        for each in found
        if each.result.mesh["data"] == 16 and each.result.rematerialization == "dots"
    )
    assert [phase.num_microbatches for phase in dots.result.phases] == [2, 4]
    assert dots.flags.endswith(
        "'--config.phases[0].num_microbatches=2' '--config.phases[1].num_microbatches=4'"
    ), "a shell would read the brackets"


def test_where_the_least_memory_does_not_fit_more_is_not_tried():
    def too_large(config, topology, memory_bytes):
        parts = config.train.num_microbatches or 1
        phase = phase_result(needed=20 + 80 / parts, batch_size=256, num_microbatches=parts)
        return result(phase, mesh=(config.mesh.data, config.mesh.fsdp, 1))

    found, said, compiled = searched(too_large)
    assert found == []
    assert "Nothing that was tried fits" in "".join(found_lines(found, V5E))
    # From 100 GiB with all 16 rows, so many parts might do; from what they need, none would.
    assert [config.train.num_microbatches for config in compiled] == [0, 8] * len(meshes(16))
    assert {config.encoder.rematerialization for config in compiled} == {"full"}
    assert sum("no number of microbatches would fit" in line for line in said) == len(meshes(16))


def test_a_state_that_is_too_large_is_one_try_a_mesh():
    def too_large(config, topology, memory_bytes):
        phase = phase_result(needed=100, batch_size=256, state_is_too_large=True)
        return result(phase, mesh=(config.mesh.data, config.mesh.fsdp, 1))

    found, said, compiled = searched(too_large)
    assert found == [] and len(compiled) == len(meshes(16))
    assert sum("at least 100.00 GiB, does not fit" in line for line in said) == len(meshes(16))


def test_what_cannot_be_is_told_and_left_out():
    def refusing(config, topology, memory_bytes):
        if config.mesh.fsdp > 1:
            raise UserError("it cannot be split.")
        if config.encoder.rematerialization == "dots":
            raise MachineError("the compiler crashed.")
        return made_up(config, topology, memory_bytes)

    found, said, _ = searched(refusing)
    assert {each.result.rematerialization for each in found} == {"none", "full"}
    assert {each.result.mesh["fsdp"] for each in found} == {1}
    assert sum("it cannot be split." in line for line in said) == 2, "once a mesh"
    assert any("dots: cannot be: the compiler crashed." in line for line in said)


def test_what_was_found_is_there_when_it_is_interrupted():
    def interrupted(config, topology, memory_bytes):
        if config.mesh.fsdp > 1:
            raise KeyboardInterrupt
        return made_up(config, topology, memory_bytes)

    config, found = tiny_config(batch_size=256), []
    tries = search(config, V5E, V5E.memory_bytes, compile_for=interrupted, say=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        found.extend(tries)
    assert len(found) == 3 == len(list(found_lines(found, V5E))) - 1


@hypothesis.given(
    constant=st.floats(0, 20),
    share=st.floats(0.01, 400),
    rows=st.integers(1, 512),
    first=st.integers(0, 511),
)
def test_the_least_number_that_fits_is_found_in_few_tries(constant, share, rows, first):
    """Whatever a run would choose first, and however much of the need is constant."""
    limit = V5E.memory_bytes
    divisors = [parts for parts in range(1, rows + 1) if rows % parts == 0]

    def phase(parts):
        size = 2 + constant + share / parts
        state = State(parameters=GIB, optimizer=GIB // 2, average=0, gradient=GIB // 2, batch=0)
        key = "peak" if size * GIB <= limit else "needed"
        return phase_result(**{key: size}, num_microbatches=parts, state=state)

    parts, known = divisors[first % len(divisors)], {}
    while parts is not None and parts not in known:
        known[parts] = phase(parts)
        parts = next_microbatches(known, rows, limit)
    fitting = [each for each in divisors if phase(each).fits(limit)]
    assert parts == (fitting[0] if fitting else None)
    assert len(known) <= 5


def test_the_table_has_times_where_there_are_rates():
    found, _, _ = searched(made_up)
    table = list(found_lines(found, V5E))
    assert table[1].startswith("  1. peak 11.00 GiB, ") and " h " in table[1]
    assert found[0].flags in table[1]
    cpu, _, _ = searched(made_up, parse_topology("cpu:16"))
    assert " to " not in list(found_lines(cpu, parse_topology("cpu:16")))[1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 16, 64, 256])
def test_every_mesh_fills_the_devices(count):
    tried = [(mesh.data, mesh.fsdp, mesh.tensor) for mesh in meshes(count)]
    assert all(math.prod(sizes) == count for sizes in tried)
    assert tried[0] == (count, 1, 1) and len(set(tried)) == len(tried)


@pytest.mark.slow
def test_a_real_search_on_four_fake_devices():
    topology = parse_topology("cpu:4")
    tries = search(tiny_config(), topology, math.inf, compile_for=dry_run, say=lambda line: None)
    found = best_first(tries, topology)
    assert len(found) == 3 * len(meshes(4))
    keys = [rank(each.result, topology) for each in found]
    assert keys == sorted(keys)
    assert found[0].result.rematerialization == "none", "the least arithmetic"
