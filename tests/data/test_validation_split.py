import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.corpus import Document
from roberta_jax.data.validation_split import split_documents, systematic_sample
from roberta_jax.errors import UserError


@pytest.mark.parametrize("fraction", [0.5, 0.3, 0.1, 0.01, 1e-9])
def test_the_second_document_is_the_first_one_taken(fraction):
    taken = systematic_sample(fraction)
    assert (taken(0), taken(1)) == (False, True)


def test_a_tenth_is_every_tenth():
    taken = systematic_sample(0.1)
    assert [i for i in range(40) if taken(i)] == [1, 11, 21, 31]


def test_no_fraction_takes_nothing():
    assert not any(map(systematic_sample(0.0), range(1000)))


@given(st.floats(0.001, 0.5), st.integers(2, 3000))
def test_the_share_is_right_at_any_length(fraction, count):
    number = sum(map(systematic_sample(fraction), range(count)))
    assert abs(number - fraction * count) <= 1


@pytest.mark.parametrize("fraction", [-0.1, 0.51, float("nan")])
def test_a_fraction_that_leaves_no_training_text_is_refused(fraction):
    with pytest.raises(UserError, match=r"must be in \[0, 0.5\]"):
        systematic_sample(fraction)


def test_pieces_stay_with_their_document():
    starts = [True, True, False, False, True]
    documents = [Document(["x"], "", is_start) for is_start in starts]
    splits = [split for split, _ in split_documents(documents, 0.5)]
    assert splits == ["train", "validation", "validation", "validation", "train"]
