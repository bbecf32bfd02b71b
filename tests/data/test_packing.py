import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.packing import RowPacker
from roberta_jax.data.rows import NextSentence, RowCounts, segment_ids

BOS, PAD = 0, 1


def row_packer(sequence_length, **kwargs):
    return RowPacker(sequence_length, bos_id=BOS, pad_id=PAD, counts=RowCounts(), **kwargs)


def put(packer, length, value, label=NextSentence.NONE):
    packer.reserve(length, label)[1:] = value


def test_an_example_goes_where_it_leaves_the_least_room():
    packer = row_packer(12)
    put(packer, 5, 10)  # Leaves 7.
    put(packer, 8, 11)  # Does not fit; leaves 4.
    put(packer, 4, 12)  # Fits both; fills the second row.
    assert packer.take_rows().tolist() == [[BOS, *[11] * 7, BOS, *[12] * 3]]
    put(packer, 3, 13)  # Into the first row again; leaves 4.
    packer.finish()
    assert packer.take_rows().tolist() == [[BOS, *[10] * 4, BOS, 13, 13, *[PAD] * 4]]


def test_the_fullest_row_is_closed_when_too_many_are_open():
    packer = row_packer(12, open_rows=2)
    for length, value in ((8, 10), (7, 11), (9, 12)):
        put(packer, length, value)
    assert packer.take_rows()[:, 1].tolist() == [10]
    packer.finish()
    assert packer.take_rows()[:, 1].tolist() == [12, 11]


def test_a_row_that_no_example_fits_into_is_closed_at_once():
    packer = row_packer(12)
    put(packer, 10, 10)
    assert packer.take_rows().tolist() == [[BOS, *[10] * 9, PAD, PAD]]


def test_labels_follow_the_tokens_in_the_order_of_the_examples():
    packer = row_packer(16, label_slots=3)
    put(packer, 5, 10, NextSentence.RANDOM)
    put(packer, 5, 11, NextSentence.NEXT)
    packer.finish()
    assert packer.take_rows()[0, 16:].tolist() == [2, 1, 0]


def test_a_row_has_no_more_examples_than_labels():
    packer = row_packer(16, label_slots=2)
    for value in (10, 11, 12):
        put(packer, 4, value, NextSentence.NEXT)
    assert packer.take_rows().tolist() == [[BOS, 10, 10, 10, BOS, 11, 11, 11, *[PAD] * 8, 1, 1]]


def test_has_room_looks_for_rooms_between_two_sizes():
    packer = row_packer(12)
    assert not packer.has_room(1, 12)
    put(packer, 5, 10)  # Leaves 7.
    assert packer.has_room(7, 7) and packer.has_room(3, 7) and packer.has_room(7, 9)
    assert not packer.has_room(3, 6) and not packer.has_room(8, 12) and not packer.has_room(8, 6)


@given(
    st.lists(st.tuples(st.integers(3, 20), st.sampled_from(NextSentence)), max_size=60),
    st.integers(0, 4),
    st.integers(1, 5),
)
def test_every_example_stands_in_one_row_with_its_label(examples, label_slots, open_rows):
    packer = row_packer(20, label_slots=label_slots, open_rows=open_rows)
    rows = []
    for value, (length, label) in enumerate(examples, start=10):
        put(packer, length, value, label)
        rows.extend(packer.take_rows())
    packer.finish()
    rows.extend(packer.take_rows())
    found = {}
    for row in rows:
        tokens, labels = row[:20], row[20:].tolist()
        segments = segment_ids(tokens, bos_id=BOS, pad_id=PAD)
        for segment in range(1, segments.max() + 1):
            example = tokens[segments == segment].tolist()
            assert example == [BOS] + [example[1]] * (len(example) - 1)
            assert example[1] not in found
            label = labels[segment - 1] if label_slots else None
            found[example[1]] = (len(example), label)
        assert not any(labels[segments.max() :])
    assert found == {
        value: (length, label if label_slots else None)
        for value, (length, label) in enumerate(examples, start=10)
    }
    counts = packer._counts
    assert (counts.rows, counts.examples) == (len(rows), len(examples))
    assert counts.tokens == sum(length for length, _ in examples)
    assert counts.padding_tokens == 20 * len(rows) - counts.tokens


@pytest.mark.parametrize("label_slots", [0, 32])
def test_mixed_lengths_fill_the_rows(label_slots):
    packer = row_packer(512, label_slots=label_slots)
    for length in np.random.default_rng(0).integers(16, 513, 20_000):
        put(packer, int(length), 10)
    packer.finish()
    rows = packer.take_rows()
    assert np.mean(rows[:, :512] != PAD) > 0.97


def test_segment_ids_count_the_examples_of_a_row():
    tokens = np.array([[BOS, 5, 2, BOS, 6, 7, PAD, PAD], [BOS, 5, 6, 7, 8, 9, 10, 2]])
    segments = segment_ids(tokens, bos_id=BOS, pad_id=PAD)
    assert segments.tolist() == [[1, 1, 1, 2, 2, 2, 0, 0], [1] * 8]
    assert segments.dtype == np.int32
    assert segment_ids(tokens[0], bos_id=BOS, pad_id=PAD).tolist() == segments[0].tolist()
