import contextlib
import itertools

import numpy as np
import pytest

from roberta_jax.data.loader import Loader, validation_batches


def first(dataset, count, *, examples_seen=0, batch_size=16, seed=7, **options):
    loader = Loader(dataset, batch_size=batch_size, seed=seed, **options)
    with contextlib.closing(loader.batches(examples_seen)) as batches:
        return list(itertools.islice(batches, count))


def joined(batches, name):
    return np.concatenate([getattr(batch, name) for batch in batches])


def assert_equal(batches, others):
    for name in ("tokens", "index", "epoch"):
        np.testing.assert_array_equal(joined(batches, name), joined(others, name))


def test_the_order_of_a_seed_stays_as_it_is(train_rows):
    (batch,) = first(train_rows, 1)
    assert batch.index[:8].tolist() == [15, 207, 246, 268, 18, 221, 118, 22]
    assert (batch.tokens.dtype, batch.index.dtype, batch.epoch.dtype) == (
        np.int32,
        np.uint32,
        np.uint32,
    )
    np.testing.assert_array_equal(batch.tokens, train_rows.read(batch.index))


def test_every_epoch_is_another_permutation(train_rows):
    size = len(train_rows)
    batches = first(train_rows, -(-3 * size // 16))
    index, epoch = joined(batches, "index"), joined(batches, "epoch")
    orders = [index[epoch == number] for number in range(3)]
    for order in orders:
        assert sorted(order) == list(range(size))
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    assert (np.diff(epoch.astype(int)) >= 0).all()
    assert (orders[0] != first(train_rows, 1, seed=8, batch_size=size)[0].index).any()


def test_another_seed_is_not_the_same_run_shifted_by_an_epoch(train_rows):
    size = len(train_rows)
    second_epoch = first(train_rows, 1, seed=7, batch_size=size, examples_seen=size)
    assert (second_epoch[0].index != first(train_rows, 1, seed=8, batch_size=size)[0].index).any()


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_same_global_batches(train_rows, process_count):
    whole = first(train_rows, 5, examples_seen=32)
    parts = [
        first(train_rows, 5, examples_seen=32, rows=rows)
        for rows in np.split(np.arange(16), process_count)
    ]
    for step, batch in enumerate(whole):
        assert_equal([batch], [part[step] for part in parts])


@pytest.mark.parametrize("num_threads", [0, 1, 8])
def test_threads_do_not_change_the_batches(train_rows, num_threads):
    assert_equal(first(train_rows, 30), first(train_rows, 30, num_threads=num_threads))


def test_worker_processes_do_not_change_the_batches(train_rows):
    assert_equal(first(train_rows, 4), first(train_rows, 4, num_workers=1))


def test_any_example_is_a_place_to_start(train_rows):
    long = first(train_rows, 40)
    for steps in (1, 7, 25):
        assert_equal(long[steps : steps + 5], first(train_rows, 5, examples_seen=16 * steps))
    # A change of the batch size goes on with the next example too.
    assert_equal(long[4:8], first(train_rows, 2, examples_seen=64, batch_size=32))


def test_a_far_example_is_as_near_as_the_first(train_rows):
    examples_seen = 10**9 * 16
    (batch,) = first(train_rows, 1, examples_seen=examples_seen)
    assert batch.epoch[0] == examples_seen // len(train_rows)


def test_a_dataset_smaller_than_a_batch_is_passed_several_times(train_rows):
    size = len(train_rows)
    (batch,) = first(train_rows, 1, batch_size=2 * size + 4)
    assert np.bincount(batch.epoch).tolist() == [size, size, 4]


def test_a_process_may_hold_rows_that_lie_apart(train_rows):
    rows = np.array([0, 1, 6, 7, 13])
    for whole, part in zip(first(train_rows, 3), first(train_rows, 3, rows=rows), strict=True):
        for name in ("tokens", "index", "epoch"):
            np.testing.assert_array_equal(getattr(whole, name)[rows], getattr(part, name))


def test_validation_takes_every_row_once_in_order(train_rows):
    size = len(train_rows)
    batches = list(validation_batches(train_rows, batch_size=50, max_rows=10**9))
    weights = np.concatenate([weights for _, weights in batches])
    index = joined([batch for batch, _ in batches], "index")
    assert len(index) % 50 == 0 and weights.sum() == size
    assert index[weights == 1].tolist() == list(range(size))
    assert weights.dtype == np.float32 and (weights[size:] == 0).all()
    for batch, _ in batches:
        assert batch.tokens.shape == (50, train_rows.sequence_length)
        assert (batch.epoch == 0).all()


def test_validation_of_fewer_rows_spaces_them_evenly(train_rows):
    batches = list(validation_batches(train_rows, batch_size=8, max_rows=12))
    weights = np.concatenate([weights for _, weights in batches])
    chosen = joined([batch for batch, _ in batches], "index")[weights == 1].astype(int)
    assert len(chosen) == 12
    assert set(np.diff(chosen)) <= {len(train_rows) // 12, len(train_rows) // 12 + 1}


def test_validation_parts_of_processes_make_up_the_whole(train_rows):
    whole = list(validation_batches(train_rows, batch_size=8, max_rows=20))
    parts = [
        list(validation_batches(train_rows, batch_size=8, max_rows=20, rows=rows))
        for rows in np.split(np.arange(8), 2)
    ]
    for step, (batch, weights) in enumerate(whole):
        assert_equal([batch], [part[step][0] for part in parts])
        np.testing.assert_array_equal(weights, np.concatenate([part[step][1] for part in parts]))
