"""All sections together."""

import pytest

from roberta_jax import config as c
from tests.config.changes import assert_refused, changed, phases, refusal


def test_the_defaults_are_allowed():
    c.PretrainConfig().validate()


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_is_not_allowed_is_refused(seed):
    assert_refused("seed", seed, "in [0, 2^31)")


def test_the_largest_seed_is_allowed():
    changed(seed=2**31 - 1).validate()


def test_a_run_has_a_duration_or_phases():
    assert refusal(train__duration="").startswith('config.train.duration is ""; it must be given')
    changed(train__duration="", phases=phases({"duration": "5 steps"})).validate()


def test_rows_have_no_more_tokens_than_there_are_positions():
    assert_refused("data__sequence_length", 1024, "at most encoder.max_positions=512")
    assert_refused("encoder__max_positions", 256, "512; it must be at most encoder.max_positions=")
    assert "is 1024" in refusal(phases=phases({}, {"sequence_length": 1024}))
    changed(data__sequence_length=1024, encoder__max_positions=1024).validate()


def test_every_prediction_has_a_slot_and_every_slot_a_token():
    assert "0, or from 77 (masking.rate=0.15 of 512 tokens) to 512" in refusal(
        masking__num_slots=76
    )
    assert "masking.num_slots is 513" in refusal(masking__num_slots=513)
    for num_slots in (0, 77, 512):
        changed(masking__num_slots=num_slots).validate()


def test_the_longest_phase_decides_how_many_slots_are_needed():
    config = changed(data__sequence_length=128, masking__num_slots=20)
    config.validate()
    config.phases = phases({}, {"sequence_length": 512})
    assert "of 512 tokens" in refusal(
        data__sequence_length=128, masking__num_slots=20, phases=config.phases
    )


def test_a_short_phase_has_a_token_for_every_slot_too():
    config = changed(masking__num_slots=200, phases=phases({"sequence_length": 128}, {}))
    config.validate()
    assert [config.masking.max_masked(length) for length in (128, 512)] == [128, 200]


def test_sequence_lengths_are_those_of_the_phases():
    assert c.PretrainConfig().sequence_lengths() == (512,)
    config = changed(phases=phases({"sequence_length": 128}, {}))
    assert config.sequence_lengths() == (128, 512)
