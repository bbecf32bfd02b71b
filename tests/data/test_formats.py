import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.formats import FullSentencesPacker
from roberta_jax.errors import UserError

BOS, PAD, EOS = 0, 1, 2


def packer(sequence_length):
    return FullSentencesPacker(sequence_length, bos_id=BOS, pad_id=PAD, eos_id=EOS)


def pack(documents, sequence_length):
    """Rows and counts of documents, each a list of sentences, each a list of ids."""
    one = packer(sequence_length)
    for document in documents:
        one.add(np.array([i for sentence in document for i in [*sentence, EOS]], np.uint32))
    one.finish()
    return one.take_rows().tolist(), one.counts


def test_sentences_fill_a_row_until_the_next_does_not_fit():
    rows, counts = pack([[[10, 11], [12], [13, 14, 15]]], 8)
    assert rows == [
        [BOS, 10, 11, EOS, 12, EOS, PAD, PAD],
        [BOS, 13, 14, 15, EOS, PAD, PAD, PAD],
    ]
    assert (counts.rows, counts.tokens, counts.padding_tokens) == (2, 11, 5)
    assert (counts.documents, counts.sentences, counts.over_long_sentences) == (1, 3, 0)


def test_a_document_border_adds_one_separator():
    rows, counts = pack([[[10, 11]], [[12]]], 8)
    assert rows == [[BOS, 10, 11, EOS, EOS, 12, EOS, PAD]]
    assert counts.documents == 2


def test_a_document_border_is_never_the_first_thing_of_a_row():
    # The first row is full, so the border falls between the rows and is not written.
    rows, _ = pack([[[10, 11, 12, 13, 14, 15]], [[20]]], 8)
    assert rows == [
        [BOS, 10, 11, 12, 13, 14, 15, EOS],
        [BOS, 20, EOS, PAD, PAD, PAD, PAD, PAD],
    ]


def test_a_document_border_is_written_when_the_next_sentence_does_not_fit():
    rows, _ = pack([[[10, 11, 12, 13, 14]], [[20, 21]]], 8)
    assert rows == [
        [BOS, 10, 11, 12, 13, 14, EOS, EOS],
        [BOS, 20, 21, EOS, PAD, PAD, PAD, PAD],
    ]


def test_a_sentence_of_exactly_a_row_is_not_cut():
    rows, counts = pack([[[10, 11, 12, 13, 14, 15]]], 8)
    assert rows == [[BOS, 10, 11, 12, 13, 14, 15, EOS]]
    assert counts.over_long_sentences == 0


def test_a_longer_sentence_is_cut_and_counted_once():
    rows, counts = pack([[list(range(10, 25))]], 8)
    assert rows == [
        [BOS, 10, 11, 12, 13, 14, 15, EOS],
        [BOS, 16, 17, 18, 19, 20, 21, EOS],
        [BOS, 22, 23, 24, EOS, PAD, PAD, PAD],
    ]
    assert (counts.over_long_sentences, counts.sentences) == (1, 1)


def test_an_over_long_sentence_uses_the_room_that_is_left_if_it_is_worth_it():
    # 8 tokens and their separator fit behind the first sentence.
    rows, _ = pack([[[5], list(range(10, 30))]], 12)
    assert rows[0] == [BOS, 5, EOS, *range(10, 18), EOS]
    # 7 do not count as worth it.
    rows, _ = pack([[[5, 6], list(range(10, 30))]], 12)
    assert rows[0] == [BOS, 5, 6, EOS, *[PAD] * 8]


def test_pieces_of_a_document_are_one_document():
    one = packer(8)
    one.add(np.array([10, EOS]))
    one.add(np.array([11, EOS]), starts_document=False)
    one.add(np.array([], np.uint32))
    one.finish()
    assert one.take_rows().tolist() == [[BOS, 10, EOS, 11, EOS, PAD, PAD, PAD]]
    assert one.counts.documents == 1


def test_rows_are_handed_out_once():
    one = packer(8)
    one.add(np.array([10, 11, 12, 13, 14, 15, EOS, 16, EOS]))
    assert len(one.take_rows()) == 1
    assert one.take_rows().shape == (0, 8)
    one.finish()
    one.finish()
    assert len(one.take_rows()) == 1


def test_rows_too_short_for_any_sentence_are_refused():
    with pytest.raises(UserError, match="at least 8"):
        packer(7)


sentences = st.lists(st.integers(3, 99), max_size=30)


@given(st.lists(st.lists(sentences, max_size=6), max_size=6), st.integers(8, 24))
def test_no_token_is_lost_doubled_or_moved(documents, sequence_length):
    rows, counts = pack(documents, sequence_length)
    packed = [i for row in rows for i in row if i not in (BOS, PAD, EOS)]
    assert packed == [i for document in documents for sentence in document for i in sentence]
    assert counts.tokens == sum(i != PAD for row in rows for i in row)
    assert counts.padding_tokens == sum(i == PAD for row in rows for i in row)
    assert counts.sentences == sum(map(len, documents))
    assert counts.rows == len(rows)
    for row in rows:
        assert row[0] == BOS and BOS not in row[1:]
        content = row[: row.index(PAD)] if PAD in row else row
        assert content[-1] == EOS
        assert PAD not in content
