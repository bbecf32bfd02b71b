"""Texts as rows, rows as batches of few shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.errors import TruncationWarning, UserError
from roberta_jax.inference.rows import batches, checked_length


@given(st.lists(st.integers(1, 100), max_size=80))
def test_every_row_comes_once_in_a_batch_of_few_shapes(lengths):
    rows = [list(range(2, length + 2)) for length in lengths]
    seen, shapes = [], set()
    for numbers, tokens in batches(rows, pad_id=1, limit=100, tokens_per_batch=1000):
        assert tokens.dtype == np.int32 and tokens.size <= 1000
        shapes.add(tokens.shape[1])
        seen += numbers.tolist()
        for place, row in enumerate(tokens):
            wanted = rows[numbers[place]] if place < len(numbers) else []
            assert row.tolist() == [*wanted, *[1] * (tokens.shape[1] - len(wanted))]
        assert len(tokens) < 2 * len(numbers)
    assert sorted(seen) == list(range(len(rows)))
    assert shapes <= {16, 32, 64, 100}


def test_a_long_row_keeps_its_beginning_and_its_end():
    assert checked_length([0, 5, 6, 2], 4, strict=True) == [0, 5, 6, 2]
    with pytest.warns(TruncationWarning, match="4 tokens, and this model takes at most 3"):
        assert checked_length([0, 5, 6, 2], 3, strict=False) == [0, 5, 2]
    with pytest.raises(UserError, match="Shorten it"):
        checked_length([0, 5, 6, 2], 3, strict=True)
