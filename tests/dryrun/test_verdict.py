"""What a person reads."""

import dataclasses
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from roberta_jax.dryrun.memory import memory_parts
from roberta_jax.dryrun.result import State
from roberta_jax.dryrun.topologies import parse_topology
from roberta_jax.dryrun.verdict import advice, days, gib, lines
from tests.dryrun.cases import GIB, phase_result, result

V5E = parse_topology("v5e:4x4")


def test_what_fits_is_told_with_all_its_parts():
    text = "\n".join(lines(result(phase_result(peak=6)), V5E, V5E.memory_bytes))
    assert "v5e:4x4: 16 devices of 15.75 GiB each; mesh data 16 x fsdp 1 x tensor 1" in text
    assert "1.00  parameters" in text and "1.00  optimizer state" in text
    assert "1.00  gradient" in text and "3.00  activations and working space" in text
    assert "6.00  peak of 15.75" in text
    assert "7 all-reduce of 1 GB in all, 2 GB sent by a device" in text
    assert "2 to 5.04 s a step: 50% to 20% of the peak for the model" in text
    assert "86,400 steps: 2.0 days to 5.0 days" in text
    assert "481 FLOPs a byte (v5e needs 241 to be busy with arithmetic)" in text
    assert max(map(len, text.splitlines())) < 200


def test_phases_are_told_one_by_one():
    two = result(phase_result(peak=6), phase_result(peak=7, sequence_length=128))
    text = "\n".join(lines(two, V5E, V5E.memory_bytes))
    assert "phase 1\nstep " in text and "phase 2\nstep " in text and "of 128 tokens" in text
    assert "172,800 steps" in text


def test_a_cpu_has_no_time_and_no_limit():
    text = "\n".join(lines(result(phase_result(peak=6)), parse_topology("cpu:16"), math.inf))
    assert "no published peak" in text and "s a step" not in text
    assert "6.00  peak" in text and "peak of" not in text


def test_missing_memory_is_one_paragraph_with_what_helps():
    """3 GiB stay; of 16 - 3 = 13 GiB of activations, 12.75 fit: twice the parts is enough."""
    text = advice(result(phase_result(needed=16, num_microbatches=2)), V5E, V5E.memory_bytes)
    assert text.startswith(
        "It does not fit: a device of v5e:4x4 would need 16.00 GiB and has 15.75"
    )
    assert "0.25 GiB are missing" in text
    assert "--config.train.num_microbatches=4 instead of 2" in text
    assert "activations of about 6.50 instead of 13.00 GiB" in text
    assert "--config.mesh.fsdp=2 --config.mesh.data=-1 (weights and gradient over 2 devices" in text
    assert "about 1.00 GiB less)" in text
    assert "chips with more memory (v4, v5p, v6e)" in text
    assert "\n" not in text and "rematerialization" not in text, "it is full already"


def test_rematerialization_is_named_where_it_is_not_full():
    one = result(phase_result(needed=40), policy="dots")
    text = advice(one, V5E, V5E.memory_bytes)
    assert "--config.encoder.rematerialization=full" in text
    assert "chips with more memory (v5p)" in text


def test_microbatches_are_not_named_where_the_state_alone_is_too_large():
    text = advice(result(phase_result(peak=6)), parse_topology("cpu:16"), 2.5 * GIB)
    assert "3.50 GiB are missing" in text and "num_microbatches" not in text
    assert "chips with more memory" not in text
    assert "mesh.fsdp=16" in text and "about 1.88 GiB less, not enough alone)" in text


def test_weights_that_are_split_already_are_split_further():
    one = result(phase_result(needed=16), mesh=(4, 4, 1))
    text = advice(one, V5E, V5E.memory_bytes)
    assert "mesh.fsdp=8" in text and "about 1.00 GiB less)" in text
    whole = result(phase_result(needed=16), mesh=(1, 16, 1))
    assert "mesh.fsdp" not in advice(whole, V5E, V5E.memory_bytes)


def test_a_state_that_is_too_large_is_told_as_the_least_that_is_needed():
    state = State(parameters=12 * GIB, optimizer=5 * GIB, average=0, gradient=12 * GIB, batch=0)
    phase = phase_result(needed=17, state=state, state_is_too_large=True)
    one = result(phase, policy="none")
    text = advice(one, V5E, V5E.memory_bytes)
    assert "would need at least 17.00 GiB for its state alone and has 15.75 GiB" in text
    assert "at least 1.25 GiB are missing" in text
    assert "num_microbatches" not in text and "rematerialization" not in text
    assert "mesh.fsdp=2" in text and "about 6.00 GiB less)" in text
    told = "\n".join(lines(one, V5E, V5E.memory_bytes))
    assert "17.00  needed at least of 15.75" in told and "activations" not in told
    assert "not compiled" in told


def test_what_the_compiler_gave_up_is_told_with_its_parts():
    told = "\n".join(lines(result(phase_result(needed=20)), V5E, V5E.memory_bytes))
    assert "1.00  gradient" in told and "17.00  activations and working space" in told
    assert "20.00  needed of 15.75" in told and "given up after 1 min 01 s" in told
    assert "collectives" not in told and "time " not in told


def test_the_phase_that_needs_most_is_named():
    text = advice(result(phase_result(peak=6), phase_result(needed=20)), V5E, V5E.memory_bytes)
    assert text.startswith("It does not fit in phase 2: ")


def test_every_phase_that_does_not_fit_is_told_its_own_microbatches():
    fields = [{"microbatches_field": f"phases[{number}].num_microbatches"} for number in range(3)]
    three = result(
        phase_result(needed=17, **fields[0]),
        phase_result(peak=6, **fields[1]),
        phase_result(needed=30, **fields[2]),
    )
    text = advice(three, V5E, V5E.memory_bytes)
    assert "--config.phases[0].num_microbatches=2 instead of 1" in text
    assert "--config.phases[2].num_microbatches=4 instead of 1" in text
    assert "phases[1]" not in text and "train.num_microbatches" not in text


@hypothesis.given(
    st.sampled_from(["peak", "needed", "too large"]), st.floats(3, 1e4), st.integers(0, GIB)
)
def test_the_parts_of_the_memory_add_up(kind, size, average):
    phase = phase_result(**{"peak" if kind == "peak" else "needed": size})
    state = dataclasses.replace(phase.state, average=average, batch=12345)
    phase = dataclasses.replace(phase, state=state)
    if kind == "too large":
        needed = state.kept
        phase = dataclasses.replace(phase, needed_bytes=needed, state_is_too_large=True)
    assert sum(count for _, count in memory_parts(phase)) == phase.peak_bytes()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.00"), (1.5 * GIB, "1.50"), (0.002 * GIB, "0.002"), (95.74 * GIB, "95.74")],
)
def test_small_sizes_keep_their_digits(count, text):
    assert gib(count) == text


def test_a_short_run_is_told_in_hours():
    assert days(3 * 3600) == "3 h 00 min" and days(86_400 * 2.25) == "2.2 days"
