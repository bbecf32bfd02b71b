import collections

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from roberta_jax.tasks.windows import best_of_windows, spans_of_windows, tokens_of_answer

COUNTS = st.integers(1, 60)


def bert_spans(num_tokens, room, stride):
    """The loop of run_squad.py."""
    spans, start = [], 0
    while start < num_tokens:
        length = min(num_tokens - start, room)
        spans.append((start, start + length))
        if start + length == num_tokens:
            break
        start += min(length, stride)
    return spans


def bert_is_max_context(spans, current, position):
    """`_check_is_max_context` of run_squad.py."""
    best_score, best_index = None, None
    for index, (start, stop) in enumerate(spans):
        end = stop - 1
        if position < start or position > end:
            continue
        score = min(position - start, end - position) + 0.01 * (stop - start)
        if best_score is None or score > best_score:
            best_score, best_index = score, index
    return current == best_index


@given(COUNTS, COUNTS, COUNTS)
def test_windows_are_those_of_bert(num_tokens, room, stride):
    spans = spans_of_windows(num_tokens, room, stride)
    assert spans == bert_spans(num_tokens, room, stride)
    assert {token for begin, end in spans for token in range(begin, end)} == set(range(num_tokens))


@given(COUNTS, COUNTS, COUNTS)
@example(450, 318, 128)  # The last window is so short that a little less context is preferred.
def test_every_token_is_best_where_bert_says(num_tokens, room, stride):
    spans = spans_of_windows(num_tokens, room, stride)
    times_best = collections.Counter()
    for number, (best, (begin, end)) in enumerate(zip(best_of_windows(spans), spans, strict=True)):
        wanted = [bert_is_max_context(spans, number, token) for token in range(begin, end)]
        assert best.tolist() == wanted
        times_best.update(np.arange(begin, end)[best].tolist())
    assert times_best == {token: 1 for token in range(num_tokens)}


def test_a_passage_without_tokens_has_one_empty_window():
    assert spans_of_windows(0, 5, 3) == [(0, 0)]
    (best,) = best_of_windows([(0, 0)])
    assert best.shape == (0,)


def test_the_tokens_of_an_answer_are_those_that_it_overlaps():
    #                  ab      c       blank   de      f
    offsets = np.array([[0, 2], [2, 3], [4, 4], [4, 6], [6, 7]])
    assert tokens_of_answer(offsets, 0, 2) == (0, 0)
    assert tokens_of_answer(offsets, 1, 3) == (0, 1)
    assert tokens_of_answer(offsets, 3, 5) == (3, 3)
    assert tokens_of_answer(offsets, 2, 7) == (1, 4)
    assert tokens_of_answer(offsets, 3, 4) is None
    assert tokens_of_answer(offsets[:0], 0, 1) is None
