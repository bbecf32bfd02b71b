import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data.doc_sentences import DocSentencesPacker
from roberta_jax.data.rows import segment_ids
from roberta_jax.errors import UserError

BOS, PAD, EOS = 0, 1, 2


def packer(sequence_length):
    return DocSentencesPacker(sequence_length, bos_id=BOS, pad_id=PAD, eos_id=EOS)


def to_ids(sentences):
    return np.array([i for sentence in sentences for i in [*sentence, EOS]], np.uint32)


def pack(documents, sequence_length):
    """Rows and counts of documents, each a list of sentences, each a list of ids."""
    one = packer(sequence_length)
    for document in documents:
        one.add(to_ids(document))
    one.finish()
    return one.take_rows(), one.counts


def examples_of(rows):
    """The examples in the order of the rows, each a list of ids that begins with <s>."""
    examples = []
    for row in rows:
        segments = segment_ids(row, bos_id=BOS, pad_id=PAD)
        examples += [row[segments == n].tolist() for n in range(1, segments.max() + 1)]
    return examples


def numbered(lengths):
    """Documents whose tokens are 1000 · (number of the document + 1) + position."""
    documents = []
    for number, sentences in enumerate(lengths, start=1):
        borders = np.cumsum([0, *sentences]) + 1000 * number
        documents.append(
            [list(range(a, b)) for a, b in zip(borders[:-1], borders[1:], strict=True)]
        )
    return documents


def test_examples_hold_one_document_and_share_rows():
    rows, counts = pack([[[10, 11], [12], [13, 14, 15]], [[20, 21]], [[30, 31, 32]]], 9)
    assert rows.tolist() == [
        [BOS, 13, 14, 15, EOS, BOS, 20, 21, EOS],
        # Made first: it ended where the next sentence did not fit, and nothing came for the hole.
        [BOS, 10, 11, EOS, 12, EOS, PAD, PAD, PAD],
        [BOS, 30, 31, 32, EOS, PAD, PAD, PAD, PAD],
    ]
    assert (counts.rows, counts.examples, counts.tokens, counts.padding_tokens) == (3, 4, 20, 7)
    assert (counts.documents, counts.sentences, counts.over_long_sentences) == (3, 5, 0)


def test_a_longer_sentence_is_cut_and_counted_once():
    rows, counts = pack([[list(range(10, 25))]], 8)
    assert rows.tolist() == [
        [BOS, 10, 11, 12, 13, 14, 15, EOS],
        [BOS, 16, 17, 18, 19, 20, 21, EOS],
        [BOS, 22, 23, 24, EOS, PAD, PAD, PAD],
    ]
    assert (counts.over_long_sentences, counts.sentences) == (1, 1)


def test_a_sentence_of_exactly_an_example_is_not_cut():
    rows, counts = pack([[[10, 11, 12, 13, 14, 15]]], 8)
    assert rows.tolist() == [[BOS, 10, 11, 12, 13, 14, 15, EOS]]
    assert counts.over_long_sentences == 0


def test_an_over_long_sentence_uses_the_room_that_is_left_if_it_is_worth_it():
    # 8 tokens and their separator fit behind the first sentence.
    rows, _ = pack([[[5], list(range(10, 30))]], 12)
    assert [BOS, 5, EOS, *range(10, 18), EOS] in examples_of(rows)
    # 7 do not count as worth it.
    rows, _ = pack([[[5, 6], list(range(10, 30))]], 12)
    assert [BOS, 5, 6, EOS] in examples_of(rows)


def test_a_hole_is_filled_by_the_beginning_of_a_long_document():
    # 64 tokens: 50 are used, and 14 are a hole that nothing shorter comes for.
    first = numbered([[48, 30, 30]])[0]
    second = numbered([[], [5, 6, 20, 20, 20]])[1]
    rows, counts = pack([first[:1], second], 64)
    assert rows[0].tolist() == [BOS, *first[0], EOS, BOS, *second[0], EOS, *second[1], EOS]
    assert rows[1, :3].tolist() == [BOS, *second[2][:2]]
    assert counts.padding_tokens == 64 - 4 - 60


def test_a_hole_that_would_not_be_filled_is_left():
    first = numbered([[48]])[0]
    second = numbered([[], [5, 2, 30, 30]])[1]  # The first two take 10 of the 14 tokens.
    rows, _ = pack([first, second], 64)
    expected = [BOS, *second[0], EOS, *second[1], EOS, *second[2], EOS]
    assert expected in examples_of(rows)


def test_pieces_of_a_document_are_one_document():
    one = packer(8)
    one.add(np.array([], np.uint32))
    one.add(np.array([10, EOS]), starts_document=False)
    one.add(np.array([11, EOS]), starts_document=False)
    one.add(np.array([], np.uint32))
    one.finish()
    one.finish()
    assert one.take_rows().tolist() == [[BOS, 10, EOS, 11, EOS, PAD, PAD, PAD]]
    assert one.take_rows().shape == (0, 8)
    assert one.counts.documents == 1


def test_rows_too_short_for_any_sentence_are_refused():
    with pytest.raises(UserError, match="at least 8"):
        packer(7)


lengths = st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8)


@given(lengths, st.integers(8, 80))
def test_no_token_is_lost_doubled_or_from_another_document(lengths, sequence_length):
    documents = numbered(lengths)
    rows, counts = pack(documents, sequence_length)
    examples = examples_of(rows)
    for example in examples:
        text = [i for i in example if i > EOS]
        # Consecutive numbers of one document: the ranges of two documents never touch.
        assert text == list(range(text[0], text[0] + len(text))) if text else True
        assert example[0] == BOS and example[-1] == EOS
    packed = sorted(i for example in examples for i in example if i > EOS)
    assert packed == [i for document in documents for sentence in document for i in sentence]
    assert counts.examples == len(examples)
    assert counts.rows == len(rows)
    assert counts.tokens == np.count_nonzero(rows != PAD)
    assert counts.padding_tokens == np.count_nonzero(rows == PAD)
    assert counts.sentences == sum(map(len, documents))
    assert counts.documents == sum(map(bool, documents))
    long = [n for document in lengths for n in document if n + 1 > sequence_length - 1]
    assert counts.over_long_sentences == len(long)
    if not long:  # Then every example ends with a whole sentence.
        ends = {sentence[-1] for document in documents for sentence in document if sentence}
        for example in examples:
            text = [i for i in example if i > EOS]
            assert not text or text[-1] in ends


@given(lengths, st.integers(8, 80), st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_how_documents_come(lengths, sequence_length, random):
    documents = numbered(lengths)
    expected, counts = pack(documents, sequence_length)
    one = packer(sequence_length)
    rows = [one.take_rows()]
    for document in documents:
        starts = True
        while document or starts:
            size = random.randint(0, len(document))
            one.add(to_ids(document[:size]), starts_document=starts)
            document, starts = document[size:], False
            if random.random() < 0.5:
                rows.append(one.take_rows())
    one.finish()
    rows.append(one.take_rows())
    assert np.concatenate(rows).tolist() == expected.tolist()
    assert one.counts == counts


def test_long_documents_fill_the_rows():
    rng = np.random.default_rng(0)
    documents = [np.where(rng.random(20_000) < 1 / 27, EOS, 5).astype(np.uint32) for _ in range(30)]
    one = packer(512)
    for ids in documents:
        ids[-1] = EOS
        one.add(ids)
    one.finish()
    assert np.mean(one.take_rows() != PAD) > 0.97
