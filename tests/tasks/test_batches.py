import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.tasks.batches import (
    Batches,
    assemble,
    evaluation_batches,
    padded_lengths,
    row_lengths,
)
from roberta_jax.tasks.features import NO_LABEL, TaskRows

LENGTHS = st.lists(st.integers(2, 200), min_size=1, max_size=300).map(np.array)
BATCH_SIZES = st.integers(1, 40)


def batches_of(lengths, batch_size=8, seed=3):
    return Batches(lengths, batch_size=batch_size, max_length=200, seed=seed)


def listed(batches):
    return [(numbers.tolist(), length) for numbers, length in batches]


def check(batches, lengths, batch_size):
    """Every prediction once, nothing cut, at most one batch that is not full."""
    numbers = np.concatenate([numbers for numbers, _ in batches])
    assert sorted(numbers.tolist()) == list(range(len(lengths)))
    for chosen, padded in batches:
        assert lengths[chosen].max() <= padded
        assert padded in padded_lengths(200)
        shorter = [length for length in padded_lengths(200) if length < padded]
        assert lengths[chosen].max() > max(shorter, default=0)
    assert sum(len(chosen) < batch_size for chosen, _ in batches) <= 1
    assert len(batches) == -(-len(lengths) // batch_size)


@given(LENGTHS, BATCH_SIZES, st.integers(0, 2**31), st.integers(0, 1000))
def test_every_row_is_in_an_epoch_once(lengths, batch_size, seed, epoch):
    batches = batches_of(lengths, batch_size, seed)
    check(batches.epoch(epoch), lengths, batch_size)
    assert batches.steps_per_epoch == len(batches.epoch(epoch))
    batches = evaluation_batches(lengths, size_at=lambda length: batch_size, max_length=200)
    check([(numbers, length) for numbers, length, _ in batches], lengths, batch_size)


@given(LENGTHS, BATCH_SIZES, st.integers(0, 2**31), st.integers(0, 1000))
def test_an_epoch_is_a_function_of_seed_and_number(lengths, batch_size, seed, epoch):
    used = batches_of(lengths, batch_size, seed)
    used.epoch(epoch + 1)
    used.at(0)
    fresh = batches_of(lengths, batch_size, seed)
    assert listed(used.epoch(epoch)) == listed(fresh.epoch(epoch))
    steps = fresh.steps_per_epoch
    at = [used.at(epoch * steps + place) for place in range(steps)]
    assert listed(at) == listed(fresh.epoch(epoch))


def test_epochs_and_seeds_differ_even_of_a_few_rows():
    lengths = np.arange(2, 26)
    seen = {
        tuple(sorted(tuple(sorted(numbers.tolist())) for numbers, _ in batches.epoch(epoch)))
        for batches in (batches_of(lengths, 8, seed) for seed in range(3))
        for epoch in range(4)
    }
    assert len(seen) == 12


def test_an_epoch_stays_the_same_in_later_versions():
    batches = batches_of(np.arange(2, 22), 4, seed=7)
    assert listed(batches.epoch(5)) == [
        ([8, 10, 14, 19], 32),
        ([3, 4, 5, 13], 16),
        ([0, 1, 7, 17], 32),
        ([2, 6, 12, 18], 32),
        ([9, 11, 15, 16], 32),
    ]


def test_rows_that_share_a_batch_are_of_similar_length():
    lengths = np.random.Generator(np.random.Philox(key=1)).geometric(1 / 25, 20_000).clip(3, 200)
    batches = batches_of(lengths, 32).epoch(0)
    padded = sum(len(numbers) * length for numbers, length in batches)
    shapes = np.array(padded_lengths(200))
    alone = shapes[np.searchsorted(shapes, lengths)].sum()  # Were every row a batch of its own.
    assert padded < 1.1 * alone  # Without sorting it is more than three times as much.
    assert len({length for _, length in batches}) <= 8


def test_seeds_have_nearly_the_same_lengths_at_the_same_step():
    lengths = np.random.Generator(np.random.Philox(key=2)).geometric(1 / 25, 20_000).clip(3, 200)
    padded = np.array(
        [[length for _, length in batches_of(lengths, 32, seed).epoch(3)] for seed in range(5)]
    )
    assert padded.max(axis=0).sum() < 1.15 * padded[0].sum()
    assert (padded.std(axis=1) > 10).all()


def test_rows_left_over_are_drawn_by_chance():
    lengths = np.arange(2, 12)
    left_over = [
        min((numbers for numbers, _ in batches_of(lengths, 4).epoch(epoch)), key=len).tolist()
        for epoch in range(40)
    ]
    assert {number for numbers in left_over for number in numbers} == set(range(10))


def test_lengths_of_shapes_are_few_and_end_at_the_limit():
    assert padded_lengths(512) == (16, 32, 64, 96, 128, 192, 256, 384, 512)
    assert padded_lengths(100) == (16, 32, 64, 96, 100)
    assert padded_lengths(16) == (16,)
    assert padded_lengths(9) == (9,)
    assert padded_lengths(1100)[-3:] == (768, 1024, 1100)


def test_evaluation_begins_with_the_longest():
    lengths = np.array([5, 90, 17, 40, 5, 17])
    batches = evaluation_batches(lengths, size_at=lambda length: 192 // length, max_length=200)
    found = [(numbers.tolist(), *shape) for numbers, *shape in batches]
    assert found == [([1, 3], 96, 2), ([2, 5, 0, 4], 32, 6)]


# What a batch holds.


def ids(*lengths):
    return [np.arange(10, 10 + length, dtype=np.int32) for length in lengths]


def make(rows, numbers, length, size, types=False):
    numbers = np.array(numbers)
    return assemble(rows, numbers, length, batch_size=size, pad_id=1, token_types=types)


def test_rows_are_filled_up_by_padding_and_batches_by_copies_without_weight():
    rows = TaskRows(ids(2, 4, 3), np.array([2, 4, 3], np.int32), np.array([5, 6, 7], np.int32))
    batch = make(rows, [2, 0], 4, 3)
    assert batch.tokens.tolist() == [[10, 11, 12, 1], [10, 11, 1, 1], [10, 11, 12, 1]]
    assert batch.tokens.dtype == np.int32 and batch.weights.dtype == np.float32
    assert batch.weights.tolist() == [1, 1, 0]
    assert batch.targets.tolist() == [7, 5, 7]
    assert batch.token_types is None


def test_token_types_mark_the_second_text_and_no_padding():
    rows = TaskRows(ids(5, 3), np.array([2, 3], np.int32), None)
    batch = make(rows, [0, 1], 6, 2, types=True)
    assert batch.token_types.tolist() == [[0, 0, 1, 1, 1, 0], [0] * 6]
    assert batch.token_types.dtype == np.int32 and batch.targets is None


def test_options_of_a_choice_stay_together():
    rows = TaskRows(
        ids(2, 3, 4, 1), np.array([2, 3, 4, 1], np.int32), np.array([1, 0], np.int32), group_size=2
    )
    assert row_lengths(rows).tolist() == [3, 4]
    batch = make(rows, [1], 4, 2)
    assert [(row != 1).sum() for row in batch.tokens] == [4, 1, 4, 1]
    assert batch.targets.tolist() == [0, 0] and batch.weights.tolist() == [1, 0]


def test_targets_of_spans_and_tokens():
    starts = np.array([2, 3], np.int32)
    span = TaskRows(ids(2, 3), starts, np.array([[0, 0], [1, 2]], np.int32))
    assert make(span, [1], 4, 2).targets.tolist() == [[1, 2], [1, 2]]
    labels = [np.array([-1, 0], np.int32), np.array([-1, 2, -1], np.int32)]
    tokens = make(TaskRows(ids(2, 3), starts, labels), [1, 0], 4, 3)
    assert tokens.targets.tolist() == [[-1, 2, -1, -1], [-1, 0, -1, -1], [NO_LABEL] * 4]


def test_a_row_longer_than_the_shape_is_never_cut():
    rows = TaskRows(ids(5), np.array([5], np.int32), None)
    with pytest.raises(ValueError, match="broadcast"):
        make(rows, [0], 4, 1)
