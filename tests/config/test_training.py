"""Devices, rhythm, phases and divergence."""

import math

import pytest

from tests.config.changes import assert_refused, changed, phases, refusal


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("mesh__data", 0, "positive, with at most one -1"),
        ("mesh__tensor", -1, "positive, with at most one -1"),
        ("mesh__fsdp", -2, "positive, with at most one -1"),
        ("mesh__context", 0, "positive, with at most one -1"),
        ("mesh__granule", "node", "one of auto, slice, process"),
        ("train__duration", "500000", "a number with one unit"),
        ("train__duration", "2.5 steps", "a whole number of steps"),
        ("train__duration", "10%", "in steps, tokens or epochs"),
        ("train__batch_size", 0, "at least 1"),
        ("train__num_microbatches", -1, "0 or more"),
        ("train__num_microbatches", 3, "a divisor of train.batch_size=8192, or 0"),
        ("train__log_every_steps", 0, "at least 1"),
        ("train__evaluate_every_steps", -1, "0 or more"),
        ("train__evaluation_rows", 0, "at least 1"),
        ("divergence__max_skips_in_a_row", -1, "0 or more"),
        ("divergence__max_rollbacks", -1, "0 or more"),
        ("divergence__spike_z_score", 0.0, "positive"),
        ("divergence__spike_z_score", math.nan, "positive"),
        ("divergence__spike_window_steps", 7, "at least 8"),
        ("checkpoint__save_every_steps", 0, "at least 1"),
        ("checkpoint__keep_last", 0, "at least 1"),
        ("checkpoint__keep_every_steps", -1, "0 or more"),
        ("checkpoint__keep_best", -1, "0 or more"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    assert_refused(path, value, allowed)


def test_without_spikes_there_is_nothing_to_roll_back():
    text = refusal(divergence__max_rollbacks=2, divergence__spike_z_score=math.inf)
    assert "divergence.max_rollbacks is 2" in text and "spike_z_score=inf" in text


@pytest.mark.parametrize(
    ("fields", "name", "allowed"),
    [
        ({"duration": ""}, "duration is ''", "a number with one unit"),
        ({"duration": "half"}, "duration is 'half'", "a number with one unit"),
        ({"duration": "120%"}, "duration is '120%'", "at most 100%"),
        ({"sequence_length": -1}, "sequence_length is -1", "0 or more"),
        ({"sequence_length": 7}, "sequence_length is 7", "at least 8 tokens, or 0"),
        ({"batch_size": -1}, "batch_size is -1", "0 or more"),
        ({"num_microbatches": -1}, "num_microbatches is -1", "0 or more"),
        (
            {"batch_size": 64, "num_microbatches": 3},
            "num_microbatches is 3",
            "a divisor of phases[1].batch_size=64, or 0",
        ),
        ({"peak_learning_rate": -1e-3}, "peak_learning_rate is -0.001", "0 or more"),
        (
            {"peak_learning_rate": 1e-3},
            "peak_learning_rate and phases[1].warmup is (0.001, '')",
            "given together",
        ),
        (
            {"warmup": "10%"},
            "peak_learning_rate and phases[1].warmup is (0.0, '10%')",
            "given together",
        ),
        (
            {"warmup": "10", "peak_learning_rate": 1e-3},
            "warmup is '10'",
            "a number with one unit",
        ),
    ],
)
def test_a_phase_that_is_not_allowed_is_named_by_its_number(fields, name, allowed):
    text = refusal(phases=phases({}, fields))
    assert text.startswith(f"config.phases[1].{name}; ") and allowed in text


def test_a_phase_may_change_everything_or_nothing():
    changed(
        phases=phases(
            {},
            {
                "duration": "5 steps",
                "path": "long",
                "sequence_length": 8,
                "batch_size": 64,
                "num_microbatches": 4,
                "peak_learning_rate": 1e-3,
                "warmup": "0 steps",
            },
        )
    ).validate()


def test_the_edges_of_what_is_allowed_are_allowed():
    changed(
        mesh__tensor=8,
        train__duration="1 step",
        train__num_microbatches=8192,
        train__evaluate_every_steps=0,
        divergence__max_skips_in_a_row=0,
        divergence__spike_z_score=math.inf,
        divergence__spike_window_steps=8,
        checkpoint__keep_best=0,
    ).validate()
    changed(train__num_microbatches=0, train__duration="2e12 tokens").validate()
    changed(divergence__max_rollbacks=3, train__duration="40 epochs").validate()
