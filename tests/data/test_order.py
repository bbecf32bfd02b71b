import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.order import PATTERN_EXAMPLES, MixedOrder, ShuffledOrder, evenly_spaced
from roberta_jax.errors import UserError


def located(order, start, count):
    return order.locate(np.arange(start, start + count))


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 100)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 10**12),
)
def test_every_stretch_of_a_mixture_has_the_proportions_of_the_weights(datasets, seed, start):
    sizes, weights = zip(*datasets, strict=True)
    order = MixedOrder(sizes, weights, seed)
    index, _ = located(order, start, 1000)
    borders = np.cumsum([0, *sizes])
    for number, weight in enumerate(weights):
        found = ((index >= borders[number]) & (index < borders[number + 1])).sum()
        assert abs(found - 1000 * weight / sum(weights)) <= len(weights) + 0.1


@given(st.integers(0, 2 * PATTERN_EXAMPLES), st.integers(1, 200))
def test_a_mixture_is_the_same_wherever_one_begins(start, count):
    order = MixedOrder([7, 300], [1.0, 2.5], 3)
    whole = located(order, 0, start + count)
    for part, all_of_it in zip(located(order, start, count), whole, strict=True):
        np.testing.assert_array_equal(part, all_of_it[start:])


def test_each_dataset_of_a_mixture_goes_through_its_own_epochs():
    order = MixedOrder([10, 40], [3, 1], 5)
    index, epoch = located(order, 0, 4 * PATTERN_EXAMPLES)
    for rows, first in ((10, 0), (40, 10)):
        mine = (index >= first) & (index < first + rows)
        own, own_epoch = index[mine] - first, epoch[mine]
        np.testing.assert_array_equal(own_epoch, np.arange(len(own)) // rows)
        for number in (0, 1, 7):
            assert sorted(own[own_epoch == number]) == list(range(rows))


def test_a_mixture_of_one_is_the_dataset():
    for one, other in zip(
        located(MixedOrder([33], [0.2], 9), 50, 100),
        located(ShuffledOrder(33, 9), 50, 100),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_order_of_a_mixture_stays_as_it_is():
    index, epoch = located(MixedOrder([5, 20], [1, 3], 7), 0, 12)
    assert index.tolist() == [18, 1, 23, 5, 10, 3, 11, 14, 7, 2, 16, 13]
    assert epoch.tolist() == [0] * 12


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "1 weights for 2 datasets"),
        ([1, -1], "must be positive"),
        ([1, 0], "must be positive"),
        ([1, float("inf")], "must be positive"),
        ([1, float("nan")], "must be positive"),
        ([1, 1e-9], "at least 1/10,000 of their sum"),
    ],
)
def test_unusable_weights_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        MixedOrder([5, 5], weights, 0)


def test_a_place_in_a_billion_rows_is_found_at_once():
    order = MixedOrder([10**9, 3 * 10**9], [1, 2], 1)
    begin = time.monotonic()
    index, epoch = located(order, 10**13, 64)
    assert time.monotonic() - begin < 2
    assert index.max() < 4 * 10**9 and epoch.max() < 10**13 // 10**9
    assert len(set(index.tolist())) == 64


def test_samples_are_evenly_spaced():
    assert evenly_spaced(10, 3).tolist() == [0, 3, 6]
    assert evenly_spaced(2, 3).tolist() == [0, 1]
    assert evenly_spaced(0, 3).tolist() == []
