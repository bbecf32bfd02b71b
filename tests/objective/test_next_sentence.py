import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.pairs import PairPacker
from roberta_jax.data.rows import NextSentence
from roberta_jax.encoder.heads import NEXT_COLUMN, RANDOM_COLUMN
from roberta_jax.objective.next_sentence import (
    NextSentenceSums,
    example_starts,
    next_sentence_sums,
    pair_token_types,
)

START, PAD, END = 0, 1, 2
NONE, NEXT, RANDOM = NextSentence.NONE, NextSentence.NEXT, NextSentence.RANDOM
LENGTH = 24

sums_of = jax.jit(next_sentence_sums)
starts_of = jax.jit(example_starts, static_argnames=("start_id", "num_examples"))
types_of = jax.jit(functools.partial(pair_token_types, start_id=START, eos_id=END, pad_id=PAD))


def as_numbers(sums):
    return [float(value) for value in (sums.loss, sums.correct, sums.count)]


# ---- Where examples begin, and their token types ------------------------------------------------


def test_starts_are_the_places_of_the_first_examples():
    rows = np.full((3, 8), PAD, np.int32)
    rows[0] = [START, 5, END, START, 6, START, 7, END]
    rows[1, :3] = [START, 9, END]
    for count, wanted in (
        (2, [[0, 3], [0, 0], [0, 0]]),
        (5, [[0, 3, 5, 0, 0], [0] * 5, [0] * 5]),
    ):
        found = starts_of(rows, start_id=START, num_examples=count)
        assert found.dtype == jnp.int32 and found.tolist() == wanted
    assert starts_of(rows, start_id=9, num_examples=2).tolist() == [[0, 0], [1, 0], [0, 0]]


def row_of(examples, separators):
    """A row, its token types, and where its examples begin; an example is one or two segments."""
    tokens, types, starts = [], [], []
    for first, second in examples:
        starts.append(len(tokens))
        tokens += [START, *first]
        if second:
            tokens += [END] * separators + [*second, END]
            types += [0] * (1 + len(first) + separators) + [1] * (len(second) + 1)
        else:
            tokens.append(END)
            types += [0] * (len(first) + 2)
    assert len(tokens) <= 64
    padding = 64 - len(tokens)
    return tokens + [PAD] * padding, types + [0] * padding, starts


segment = st.lists(st.integers(4, 40), min_size=1, max_size=6)


@given(st.lists(st.tuples(segment, st.one_of(st.just([]), segment)), max_size=4), st.integers(1, 2))
def test_token_types_and_starts_of_rows_of_pairs_and_single_segments(examples, separators):
    tokens, types, starts = row_of(examples, separators)
    assert types_of(np.array([tokens])).tolist() == [types]
    found = starts_of(np.array([tokens]), start_id=START, num_examples=4)
    assert found.tolist() == [starts + [0] * (4 - len(starts))]


@pytest.mark.parametrize("double", [True, False])
def test_rows_of_the_packer(double):
    """Labels are those of the examples in their order, and the first `</s>` ends segment one."""
    packer = PairPacker(
        LENGTH, bos_id=START, pad_id=PAD, eos_id=END, double_separator=double,
        short_sequence_probability=0.5,
    )  # fmt: skip
    source = np.random.Generator(np.random.Philox(key=1))
    for _ in range(60):
        sentences = [source.integers(4, 40, source.integers(1, 7)) for _ in range(6)]
        packer.add(np.concatenate([np.append(ids, END) for ids in sentences]))
    packer.finish()
    rows = packer.take_rows()
    tokens, labels = rows[:, :LENGTH], rows[:, LENGTH:]
    types = np.asarray(types_of(tokens))
    starts = starts_of(tokens, start_id=START, num_examples=labels.shape[1])
    num_pairs = 0
    for row, row_types, row_starts, row_labels in zip(tokens, types, starts, labels, strict=True):
        used = int((row_labels != NONE).sum())
        assert row_starts[:used].tolist() == np.flatnonzero(row == START).tolist()
        assert not np.any(row_types[row == PAD])
        borders = np.flatnonzero(row == START)[1:]
        for part, part_types in zip(
            np.split(row, borders), np.split(row_types, borders), strict=True
        ):
            ends = np.flatnonzero(part == END)
            assert len(ends) == 2 + double
            expected = np.zeros_like(part_types)
            expected[ends[-2] + 1 : ends[-1] + 1] = 1
            np.testing.assert_array_equal(part_types, expected)
            num_pairs += 1
    assert num_pairs == packer.counts.examples > 50


def test_the_places_of_rows_of_any_integer_type():
    tokens = np.array([row_of([([5, 6], [7]), ([8], [9])], 2)[0]])
    for kind in (np.uint16, np.int32):
        assert types_of(tokens.astype(kind)).dtype == jnp.int32
        np.testing.assert_array_equal(types_of(tokens.astype(kind)), types_of(tokens))


# ---- The loss -----------------------------------------------------------------------------------


def draw(seed):
    source = np.random.Generator(np.random.Philox(key=seed))
    logits = 2 * source.standard_normal((5, 4, 2)).astype(np.float32)
    return logits, source.integers(0, 3, (5, 4), np.int32)


def plain_sums(logits, labels):
    """In NumPy and float64, spelled out."""
    loss = correct = count = 0
    for (to_next, to_random), label in zip(
        logits.reshape(-1, 2).astype(np.float64), labels.ravel(), strict=True
    ):
        if label == NONE:
            continue
        right, wrong = (to_next, to_random) if label == NEXT else (to_random, to_next)
        loss += math.log1p(math.exp(wrong - right))
        correct += right >= wrong
        count += 1
    return loss, correct, count


@given(st.integers(0, 2**32))
def test_sums_are_what_numpy_computes(seed):
    logits, labels = draw(seed)
    loss, correct, count = as_numbers(sums_of(logits, labels))
    wanted = plain_sums(logits, labels)
    np.testing.assert_allclose(loss, wanted[0], rtol=1e-6)
    assert (correct, count) == wanted[1:]


@pytest.mark.parametrize("label", [NEXT, RANDOM])
def test_which_column_is_which(label):
    """Google's BERT and transformers have "is next" at 0."""
    assert (NEXT_COLUMN, RANDOM_COLUMN) == (0, 1)
    logits = np.zeros((1, 1, 2), np.float32)
    logits[..., 0 if label == NEXT else 1] = 10
    loss, correct, count = as_numbers(sums_of(logits, np.full((1, 1), label)))
    assert (correct, count) == (1, 1) and loss == pytest.approx(math.log1p(math.exp(-10)), abs=2e-6)
    loss, correct, _ = as_numbers(sums_of(-logits, np.full((1, 1), label)))
    assert correct == 0 and loss == pytest.approx(10, rel=1e-4)


def test_slots_without_an_example_count_nothing_and_have_no_gradient():
    logits, labels = draw(3)
    gradient = jax.grad(lambda logits: next_sentence_sums(logits, labels).loss)(logits)
    assert np.all(np.any(np.asarray(gradient) != 0, axis=-1) == (labels != NONE))
    nothing = sums_of(logits, np.full_like(labels, NONE))
    assert as_numbers(nothing) == [0, 0, 0]
    zero = jax.grad(lambda logits: next_sentence_sums(logits, 0 * labels).loss)(logits)
    np.testing.assert_array_equal(zero, 0)


def test_the_gradient_is_that_of_a_plain_formula():
    logits, labels = draw(4)

    def plain(logits):
        sign = jnp.where(labels == NEXT, 1.0, -1.0)
        losses = jnp.log1p(jnp.exp(-sign * (logits[..., 0] - logits[..., 1])))
        return jnp.sum(losses * (labels != NONE))

    gradient = jax.grad(lambda logits: next_sentence_sums(logits, labels).loss)(logits)
    np.testing.assert_allclose(gradient, jax.grad(plain)(logits), rtol=0, atol=5e-7)
    # And finite differences of what NumPy computes.
    step = 1e-3
    for place in ((0, 1, 0), (2, 3, 1), (4, 0, 0)):
        moved = [logits.astype(np.float64) for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        difference = (plain_sums(moved[0], labels)[0] - plain_sums(moved[1], labels)[0]) / step / 2
        assert abs(gradient[place] - difference) < 2e-6


def test_sums_of_the_parts_add_up():
    logits, labels = draw(5)
    total = NextSentenceSums(*(jnp.zeros(()) for _ in range(3)))
    for part in (slice(0, 2), slice(2, 5)):
        total = total + sums_of(logits[part], labels[part])
    whole = sums_of(logits, labels)
    np.testing.assert_allclose(as_numbers(total), as_numbers(whole), rtol=1e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(whole)} == {jnp.dtype("float32")}
