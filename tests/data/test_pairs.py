import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.data import pairs
from roberta_jax.data.pairs import PairPacker, truncation
from roberta_jax.data.rows import NextSentence, segment_ids
from roberta_jax.errors import UserError

BOS, PAD, EOS = 0, 1, 2
NEXT, RANDOM = NextSentence.NEXT, NextSentence.RANDOM


def packer(sequence_length, **kwargs):
    defaults = {"double_separator": True, "short_sequence_probability": 0.0}
    return PairPacker(sequence_length, bos_id=BOS, pad_id=PAD, eos_id=EOS, **(defaults | kwargs))


def to_ids(sentences):
    return np.array([i for sentence in sentences for i in [*sentence, EOS]], np.uint32)


def pack(documents, sequence_length, **kwargs):
    """Rows and counts of documents, each a list of sentences, each a list of ids."""
    one = packer(sequence_length, **kwargs)
    for document in documents:
        one.add(to_ids(document))
    one.finish()
    return one.take_rows(), one.counts


def pairs_of(rows, sequence_length):
    """(first segment, second segment, label) of every example, in the order of the rows."""
    found = []
    for row in rows:
        tokens, labels = row[:sequence_length], row[sequence_length:].tolist()
        segments = segment_ids(tokens, bos_id=BOS, pad_id=PAD)
        for number in range(1, segments.max() + 1):
            example = tokens[segments == number].tolist()
            border = example.index(EOS)
            second = border + 1 + (example[border + 1] == EOS)
            assert example[0] == BOS and example[-1] == EOS
            found.append((example[1:border], example[second:-1], labels[number - 1]))
        assert not any(labels[segments.max() :])
    return found


def numbered(lengths):
    """Documents whose tokens are 100,000 · (number of the document + 1) + position."""
    documents = []
    for number, sentences in enumerate(lengths, start=1):
        borders = np.cumsum([0, *sentences]) + 100_000 * number
        documents.append(
            [list(range(a, b)) for a, b in zip(borders[:-1], borders[1:], strict=True)]
        )
    return documents


def document_of(segment):
    """The number of the document of a segment, which must be consecutive tokens."""
    assert segment == list(range(segment[0], segment[0] + len(segment)))
    return segment[0] // 100_000


class BertInstances:
    """`create_instances_from_document` and `truncate_seq_pair` of google-research/bert, in lists.

    Written after create_pretraining_data.py, statement by statement, apart from the partner's
    document, which is drawn so that it needs no second try. Random numbers are those of the packer.
    """

    def __init__(self, documents, most_text, short_sequence_probability, key):
        self.documents = [[s for s in document if s] for document in documents]
        self.documents = [document for document in self.documents if document]
        self.most_text = most_text
        self.short_sequence_probability = short_sequence_probability
        self.draws = pairs._Draws(key)

    def instances(self):
        return [one for index in range(len(self.documents)) for one in self.from_document(index)]

    def randint(self, low, high):
        return low + self.draws.below(high - low + 1)

    def from_document(self, document_index):
        document = self.documents[document_index]
        target_seq_length = self.most_text
        if self.draws.uniform() < self.short_sequence_probability:
            target_seq_length = self.randint(2, self.most_text)
        instances = []
        current_chunk = []
        current_length = 0
        i = 0
        while i < len(document):
            current_chunk.append(document[i])
            current_length += len(document[i])
            if i == len(document) - 1 or current_length >= target_seq_length:
                a_end = 1
                if len(current_chunk) > 2:  # For two sentences there is nothing to draw.
                    a_end = self.randint(1, len(current_chunk) - 1)
                tokens_a = [token for segment in current_chunk[:a_end] for token in segment]
                tokens_b = []
                if len(current_chunk) == 1 or self.draws.uniform() < 0.5:
                    label = RANDOM
                    target_b_length = target_seq_length - len(tokens_a)
                    other = self.randint(0, len(self.documents) - 2)
                    random_document = self.documents[other + (other >= document_index)]
                    random_start = self.randint(0, len(random_document) - 1)
                    for j in range(random_start, len(random_document)):
                        tokens_b.extend(random_document[j])
                        if len(tokens_b) >= target_b_length:
                            break
                    i -= len(current_chunk) - a_end
                else:
                    label = NEXT
                    tokens_b = [token for segment in current_chunk[a_end:] for token in segment]
                instances.append((*self.truncated(tokens_a, tokens_b), label))
                current_chunk = []
                current_length = 0
            i += 1
        return instances

    def truncated(self, tokens_a, tokens_b):
        left = [len(tokens_a), len(tokens_b)]
        while sum(left) > self.most_text:
            left[0 if left[0] > left[1] else 1] -= 1
        segments = []
        for tokens, length in zip((tokens_a, tokens_b), left, strict=True):
            cut = len(tokens) - length
            front = self.draws.heads(cut) if cut else 0
            segments.append(tokens[front : front + length])
        return segments


lengths = st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8)
several_lengths = st.lists(
    st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=2, max_size=8
)


@given(several_lengths, st.integers(12, 64), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 9))
def test_segment_pairs_are_those_of_bert(lengths, sequence_length, probability, key):
    documents = numbered(lengths)
    rows, _ = pack(documents, sequence_length, short_sequence_probability=probability, key=(key,))
    expected = BertInstances(documents, sequence_length - 4, probability, (key,)).instances()
    assert sorted(pairs_of(rows, sequence_length)) == sorted(expected)


def test_documents_of_one_sentence_are_paired_with_each_other():
    rows, counts = pack([[[10, 11]], [[20, 21, 22]]], 32)
    first = [BOS, 10, 11, EOS, EOS, 20, 21, 22, EOS]
    second = [BOS, 20, 21, 22, EOS, EOS, 10, 11, EOS]
    assert rows.tolist() == [[*first, *second, *[PAD] * 14, RANDOM, RANDOM]]
    assert (counts.random_pairs, counts.next_pairs, counts.examples) == (2, 0, 2)
    assert (counts.repeated_tokens, counts.truncated_tokens) == (5, 0)


def test_the_only_document_has_true_next_segments():
    rows, counts = pack([[[10, 11], [12, 13, 14]]], 16)
    assert rows.tolist() == [[BOS, 10, 11, EOS, EOS, 12, 13, 14, EOS, *[PAD] * 7, NEXT]]
    assert (counts.next_pairs, counts.random_pairs, counts.documents) == (1, 0, 1)
    assert (counts.tokens, counts.padding_tokens, counts.sentences) == (9, 7, 2)


def test_a_separator_may_be_single():
    rows, _ = pack([[[10, 11], [12, 13, 14]]], 16, double_separator=False)
    assert rows.tolist() == [[BOS, 10, 11, EOS, 12, 13, 14, EOS, *[PAD] * 8, NEXT]]


def test_a_single_sentence_without_any_partner_is_counted_as_lost():
    rows, counts = pack([[[10, 11]]], 16)
    assert len(rows) == 0
    assert (counts.truncated_tokens, counts.documents, counts.examples) == (2, 1, 0)


def test_pairs_of_sentences_use_every_sentence():
    document = [[10, 11], [12], [13, 14], [15]]
    rows, counts = pack([document], 32, single_sentences=True)
    assert rows.tolist() == [
        [BOS, 10, 11, EOS, EOS, 12, EOS, BOS, 13, 14, EOS, EOS, 15, EOS, *[PAD] * 18, NEXT, NEXT]
    ]
    assert counts.truncated_tokens == 0


@given(several_lengths, st.integers(12, 80), st.integers(0, 9))
def test_pairs_of_sentences_are_single_sentences_in_their_order(lengths, sequence_length, key):
    documents = numbered(lengths)
    rows, counts = pack(documents, sequence_length, single_sentences=True, key=(key,))
    found = sorted(pairs_of(rows, sequence_length))
    sentences = [sentence for document in documents for sentence in document]
    position = {token: i for i, sentence in enumerate(sentences) for token in sentence}
    own = []
    for first, second, label in found:
        assert len({position[token] for token in first}) == 1
        assert len({position[token] for token in second}) == 1
        own.append(position[first[0]])
        if label == NEXT:
            own.append(position[second[0]])
            assert position[second[0]] == position[first[0]] + 1
    # Each sentence once, as a first segment or as a true second one.
    assert own == list(range(len(sentences)))


@given(
    lengths,
    st.integers(12, 64),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 20, 100, 10_000]),
    st.integers(0, 9),
)
def test_tokens_and_borders(lengths, sequence_length, double, single, block_tokens, key):
    documents = numbered(lengths)
    rows, counts = pack(
        documents,
        sequence_length,
        double_separator=double,
        single_sentences=single,
        short_sequence_probability=0.3,
        block_tokens=block_tokens,
        reserve_tokens=40,
        key=(key,),
    )
    found = pairs_of(rows, sequence_length)
    num_special = 4 if double else 3
    own_tokens = []  # At their place in their document.
    for first, second, label in found:
        assert first and second
        assert len(first) + len(second) + num_special <= sequence_length
        own_tokens += first
        if label == NEXT:
            own_tokens += second
            assert document_of(first) == document_of(second)
            gap = second[0] - first[-1] - 1  # More than 0 where something was cut off.
            cut = len(first) + len(second) + num_special == sequence_length
            assert gap == 0 or (gap > 0 and cut)
        else:
            assert label == RANDOM
            assert document_of(first) != document_of(second)
    assert len(own_tokens) == len(set(own_tokens))
    num_tokens = sum(map(sum, lengths))
    tokens = rows[:, :sequence_length]
    assert counts.truncated_tokens == num_tokens - len(own_tokens)
    assert counts.repeated_tokens == sum(len(b) for _, b, label in found if label == RANDOM)
    assert np.count_nonzero(tokens > EOS) == (
        num_tokens + counts.repeated_tokens - counts.truncated_tokens
    )
    assert counts.next_pairs == sum(label == NEXT for *_, label in found)
    assert counts.random_pairs == sum(label == RANDOM for *_, label in found)
    assert counts.examples == len(found)
    assert counts.rows == len(rows)
    assert counts.tokens == np.count_nonzero(tokens != PAD)
    assert counts.padding_tokens == np.count_nonzero(tokens == PAD)
    assert counts.documents == sum(map(bool, lengths))
    assert counts.sentences == sum(map(len, lengths))
    longest = sequence_length - num_special
    assert counts.over_long_sentences == sum(n > longest for one in lengths for n in one)


@given(lengths, st.booleans(), st.sampled_from([20, 10_000]), st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_how_documents_come(lengths, single, block_tokens, chance):
    documents = numbered(lengths)
    settings = {"single_sentences": single, "block_tokens": block_tokens}
    expected, counts = pack(documents, 32, **settings)
    one = packer(32, **settings)
    rows = [one.take_rows()]
    for document in documents:
        starts = True
        while document or starts:
            size = chance.randint(0, len(document))
            one.add(to_ids(document[:size]), starts_document=starts)
            document, starts = document[size:], False
            if chance.random() < 0.5:
                rows.append(one.take_rows())
    one.finish()
    one.finish()
    rows.append(one.take_rows())
    assert np.concatenate(rows).tolist() == expected.tolist()
    assert one.counts == counts


def long_documents(num_documents, num_sentences):
    rng = random.Random(0)
    return numbered(
        [[rng.randint(3, 20) for _ in range(num_sentences)] for _ in range(num_documents)]
    )


@pytest.mark.parametrize("single", [False, True])
def test_the_key_decides(single):
    documents = long_documents(5, 40)
    first, second, third = (
        pack(documents, 128, single_sentences=single, key=key)[0].tolist()
        for key in ((1, 2), (1, 2), (1, 3))
    )
    assert first == second != third


def assert_half(number, tosses):
    """Five standard deviations of a fair coin."""
    assert tosses > 400
    assert abs(number - tosses / 2) < 5 * math.sqrt(tosses) / 2, (number, tosses)


@pytest.mark.parametrize("single", [False, True])
def test_half_of_the_pairs_are_random(single):
    _, counts = pack(long_documents(10, 1000), 128, single_sentences=single)
    assert_half(counts.random_pairs, counts.examples)


@pytest.mark.parametrize("single", [False, True])
def test_half_of_the_pairs_are_random_in_blocks_of_a_single_document(single):
    documents = long_documents(2, 6000)
    documents[0] = documents[0][:20]
    rows, counts = pack(
        documents, 128, single_sentences=single, block_tokens=1000, reserve_tokens=100
    )
    assert_half(counts.random_pairs, counts.examples)
    for first, second, label in pairs_of(rows, 128):
        assert (document_of(first) != document_of(second)) == (label == RANDOM)


def test_documents_that_fill_a_block_each_are_partners():
    # Every block is one document, and the one before is another.
    documents = numbered([[5, 5], [5, 5], [5, 5], [5, 5]])
    partners = set()
    for key in range(20):
        rows, _ = pack(documents, 32, block_tokens=12, key=(key,))
        for first, second, label in pairs_of(rows, 32):
            if label == RANDOM:
                partners.add((document_of(first), document_of(second)))
    assert {(2, 1), (3, 2), (4, 3)} <= partners
    assert not any(a == b for a, b in partners)


def test_pairs_come_out_while_documents_come_in():
    one = packer(64, block_tokens=500)
    num_rows = 0
    for document in long_documents(20, 20):
        one.add(to_ids(document))
        assert one._num_tokens < 500
        num_rows += len(one.take_rows())
    assert num_rows > 0.8 * one.counts.tokens / 64


def test_short_targets_come_with_their_probability():
    # Documents of 200 sentences of one token: a pair has exactly the target length, or less at the
    # end of its document or its partner's.
    documents = numbered([[1] * 200] * 400)
    shares = []
    for probability in (0.0, 0.25, 1.0):
        rows, _ = pack(documents, 64, short_sequence_probability=probability)
        longest = {}
        for first, second, _ in pairs_of(rows, 64):
            number, length = document_of(first), len(first) + len(second)
            longest[number] = max(longest.get(number, 0), length)
        shares.append(np.mean([length < 60 for length in longest.values()]))
    assert shares[0] == 0
    # 58 of the 59 targets from 2 to 60 are short; four standard deviations of 400 draws.
    assert abs(shares[1] - 0.25) < 0.09
    assert shares[2] > 0.9


def test_the_target_length_of_a_long_document_changes(monkeypatch):
    monkeypatch.setattr(pairs, "TARGET_TOKENS", 200)
    one = packer(64, short_sequence_probability=1.0)
    targets = []
    draw = one._draw_target
    monkeypatch.setattr(one, "_draw_target", lambda: targets.append(draw()) or targets[-1])
    for document in numbered([[10] * 100, [10]]):
        one.add(to_ids(document))
    one.finish()
    assert 5 <= len(targets) <= 6  # 1,000 tokens, and the second document.
    assert len(set(targets)) > 2
    assert all(2 <= target <= 60 for target in targets)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(8, 60))
def test_the_longer_segment_is_cut(first, second, most):
    left = [first, second]
    while sum(left) > most:
        left[0 if left[0] > left[1] else 1] -= 1
    assert truncation(first, second, most) == (first - left[0], second - left[1])


def test_front_and_back_are_cut_alike():
    # Both segments have 40 tokens, of which 20 fit.
    rows, _ = pack(numbered([[40] * 2000, [40] * 2000]), 44, single_sentences=True)
    fronts = np.array(
        [segment[0] % 40 for first, second, _ in pairs_of(rows, 44) for segment in (first, second)]
    )
    assert all(fronts <= 20)
    # Binomial(20, 1/2): mean 10, variance 5.
    assert abs(fronts.mean() - 10) < 5 * math.sqrt(5 / len(fronts))
    assert abs(fronts.var() - 5) < 0.4


def test_rows_too_short_for_a_pair_are_refused():
    with pytest.raises(UserError, match="at least 12"):
        packer(11)
    with pytest.raises(UserError, match="at least 11"):
        packer(10, double_separator=False)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(probability):
    with pytest.raises(UserError, match="from 0 to 1"):
        packer(32, short_sequence_probability=probability)


@pytest.mark.parametrize("single", [False, True])
def test_rows_are_full(single):
    rng = random.Random(1)
    documents = numbered(
        [[rng.randint(3, 50) for _ in range(rng.randint(1, 60))] for _ in range(600)]
    )
    _, counts = pack(documents, 512, single_sentences=single, short_sequence_probability=0.1)
    assert counts.padding_tokens / (counts.rows * 512) < 0.03
