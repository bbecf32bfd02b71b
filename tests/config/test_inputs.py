"""What may be read, and what of it predicted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax import config as c
from tests.config.changes import assert_refused, changed


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("data__sequence_length", 7, "at least 8 tokens"),
        ("data__attention", "document", "row, example, or"),
        ("data__num_read_threads", -1, "0 or more"),
        ("data__num_read_processes", -1, "0 or more"),
        ("data__prefetch_batches", 0, "at least 1"),
        ("masking__kind", "once", "one of dynamic, static"),
        ("masking__num_static_masks", 0, "at least 1"),
        ("masking__rate", 0.0, "in (0, 1)"),
        ("masking__rate", 1.0, "in (0, 1)"),
        ("masking__mask_share", 0.95, "with a sum of at most 1"),
        ("masking__random_share", -0.1, "not negative"),
        ("masking__num_slots", -1, "0 or more"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(path, value, allowed):
    assert_refused(path, value, allowed)


def test_the_edges_of_what_is_allowed_are_allowed():
    changed(
        data__sequence_length=8,
        masking__mask_share=0.9,
        masking__random_share=0.1,
        masking__whole_words=True,
    ).validate()


@pytest.mark.parametrize(
    ("rate", "length", "slots"), [(0.15, 512, 77), (0.15, 32, 5), (0.01, 8, 1)]
)
def test_a_row_has_slots_for_all_its_predictions(rate, length, slots):
    assert c.MaskingConfig(rate=rate).max_masked(length) == slots


@given(rate=st.floats(0, 1, exclude_min=True, exclude_max=True), length=st.integers(8, 4096))
def test_there_are_never_fewer_slots_than_predictions_nor_more_than_tokens(rate, length):
    masking = c.MaskingConfig(rate=rate)
    assert 1 <= masking.most_predictions(length) <= masking.max_masked(length) <= length


def test_the_slots_can_be_given():
    assert c.MaskingConfig(num_slots=80).max_masked(512) == 80
