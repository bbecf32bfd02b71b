import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.formats import FORMATS, FullSentencesPacker, make_packer
from roberta_jax.data.rows import segment_ids, without_empty_sentences
from roberta_jax.errors import UserError

BOS, PAD, EOS = 0, 1, 2


def packer(sequence_length, **kwargs):
    return FullSentencesPacker(sequence_length, bos_id=BOS, pad_id=PAD, eos_id=EOS, **kwargs)


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


def pack_isolated(documents, sequence_length):
    one = packer(sequence_length, isolate_documents=True)
    for document in documents:
        one.add(np.array([i for sentence in document for i in [*sentence, EOS]], np.uint32))
    one.finish()
    return one.take_rows(), one.counts


def test_an_isolated_document_begins_an_example():
    rows, counts = pack_isolated([[[10, 11]], [[12, 13]], [[14]]], 10)
    assert rows.tolist() == [
        [BOS, 10, 11, EOS, BOS, 12, 13, EOS, PAD, PAD],
        [BOS, 14, EOS, *[PAD] * 7],
    ]
    assert (counts.examples, counts.rows, counts.tokens, counts.padding_tokens) == (3, 2, 11, 9)


def test_an_isolated_document_begins_inside_a_row_if_its_first_sentence_fits():
    rows, _ = pack_isolated([[[10, 11]], [[12, 13, 14, 15]]], 10)
    assert rows.tolist() == [[BOS, 10, 11, EOS, BOS, 12, 13, 14, 15, EOS]]
    rows, _ = pack_isolated([[[10, 11]], [[12, 13, 14, 15, 16]]], 10)
    assert rows[:, 1].tolist() == [10, 12]


def test_an_isolated_over_long_sentence_begins_inside_a_row_if_it_is_worth_it():
    # 8 of its tokens and a separator fit behind another <s>.
    rows, _ = pack_isolated([[[5]], [list(range(10, 40))]], 13)
    assert rows[0].tolist() == [BOS, 5, EOS, BOS, *range(10, 18), EOS]
    rows, _ = pack_isolated([[[5, 6]], [list(range(10, 40))]], 13)
    assert rows[0].tolist() == [BOS, 5, 6, EOS, *[PAD] * 9]


def test_a_document_that_comes_empty_at_first_has_its_border():
    one = packer(8)
    one.add(np.array([10, EOS]))
    one.add(np.array([], np.uint32))
    one.add(np.array([11, EOS]), starts_document=False)
    one.finish()
    assert one.take_rows().tolist() == [[BOS, 10, EOS, EOS, 11, EOS, PAD, PAD]]
    assert one.counts.documents == 2


@given(st.lists(st.lists(sentences, max_size=6), max_size=6), st.integers(8, 24))
def test_isolated_examples_hold_one_document(documents, sequence_length):
    # Every token of document n is n + 10.
    documents = [[[n] * len(s) for s in document] for n, document in enumerate(documents, start=10)]
    rows, counts = pack_isolated(documents, sequence_length)
    segments = segment_ids(rows, bos_id=BOS, pad_id=PAD)
    num_examples = 0
    for row, row_segments in zip(rows, segments, strict=True):
        for segment in range(1, row_segments.max() + 1):
            num_examples += 1
            example = row[row_segments == segment]
            assert len({i for i in example.tolist() if i > EOS}) <= 1
            assert len(example) > 1 and example[-1] == EOS
    packed = rows[rows > EOS].tolist()
    assert packed == [i for document in documents for sentence in document for i in sentence]
    assert counts.examples == num_examples
    assert counts.tokens == np.count_nonzero(rows != PAD)
    assert counts.padding_tokens == np.count_nonzero(rows == PAD)


@given(
    st.lists(st.lists(sentences, max_size=6), max_size=6),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_rows_do_not_depend_on_how_documents_come(documents, isolate, random):
    ids = [np.array([i for s in d for i in [*s, EOS]], np.uint32) for d in documents]
    whole, pieces = (packer(16, isolate_documents=isolate) for _ in range(2))
    rows = []
    for document in ids:
        whole.add(document)
        border = random.choice([0, *(np.flatnonzero(document == EOS) + 1).tolist()])
        pieces.add(document[:border])
        rows.extend(pieces.take_rows().tolist())
        pieces.add(document[border:], starts_document=False)
    whole.finish()
    pieces.finish()
    assert whole.take_rows().tolist() == rows + pieces.take_rows().tolist()
    assert whole.counts == pieces.counts


class SpecialIds:
    """As much of a tokenizer as the packers use."""

    bos_id, pad_id, eos_id = 0, 1, 2
    double_separator = True


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_a_packer(format):
    one = make_packer(format, 64, SpecialIds())
    for first in (10, 20, 30):
        one.add(np.array([first, first + 1, EOS, first + 2, EOS]))
    one.finish()
    rows = one.take_rows()
    assert one.label_slots == (4 if "pair" in format else 0)
    assert rows.shape == (one.counts.rows, 64 + one.label_slots)
    assert rows.dtype == np.int32
    assert one.counts.documents == 3
    assert one.counts.tokens == np.count_nonzero(rows[:, :64] != PAD)


def test_what_a_packer_is_made_with_reaches_it():
    document = np.array([10, 11, EOS, 12, EOS])
    rows = []
    for double_separator in (True, False):
        tokenizer = SpecialIds()
        tokenizer.double_separator = double_separator
        one = make_packer("sentence_pair", 16, tokenizer)
        one.add(document)
        one.finish()
        rows.append(one.take_rows()[0, :16].tolist())
    assert rows[0] == [BOS, 10, 11, EOS, EOS, 12, EOS, *[PAD] * 9]
    assert rows[1] == [BOS, 10, 11, EOS, 12, EOS, *[PAD] * 10]
    one = make_packer("full_sentences", 16, SpecialIds(), isolate_documents=True)
    one.add(document)
    one.add(document)
    one.finish()
    assert one.counts.examples == 2
    documents = [np.repeat([n, EOS], [30, 1]) for n in range(10, 40)]
    outcomes = []
    for settings in ({}, {"key": (1,)}, {"short_sequence_probability": 1.0}):
        one = make_packer("segment_pair", 64, SpecialIds(), **settings)
        for ids in documents:
            one.add(np.tile(ids, 5))
        one.finish()
        outcomes.append(one.take_rows().tolist())
    assert outcomes[0] != outcomes[1] and outcomes[0] != outcomes[2]


@pytest.mark.parametrize("format", FORMATS[1:])
def test_isolation_of_another_format_is_refused(format):
    with pytest.raises(UserError, match=f"full_sentences; {format}"):
        make_packer(format, 64, SpecialIds(), isolate_documents=True)


def test_an_unknown_format_is_refused():
    with pytest.raises(UserError, match="'sentences'; it must be one of full_sentences"):
        make_packer("sentences", 64, SpecialIds())


def test_sentences_without_a_token_of_text_go():
    ids = np.array([2, 5, 6, 2, 2, 2, 7, 2, 2])
    assert without_empty_sentences(ids, 2).tolist() == [5, 6, 2, 7, 2]
    whole = np.array([5, 2, 6, 2])
    assert without_empty_sentences(whole, 2) is whole
    assert without_empty_sentences(np.array([], int), 2).tolist() == []
