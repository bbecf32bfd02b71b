import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.features import NO_LABEL, _first_tokens, make_rows
from roberta_jax.tasks.task import Task

WORDS = ("the", "old", "river", "stone", "bridge", "wind", "winds", "rivers.")
CLASSES = Task(name="own", title="own", kind="classification", labels=("a", "b"))
NUMBERS = Task(name="own", title="own", kind="regression", scale=4.0, shift=1.0)
SPAN = Task(name="own", title="own", kind="span", unanswerable=True)
CHOICE = Task(name="own", title="own", kind="choice")
TOKENS = Task(name="own", title="own", kind="tokens", labels=("O", "B", "I"))
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def pairs(*texts, label=1):
    return [TextExample(str(i), pair, label) for i, pair in enumerate(texts)]


# Classification and regression.


def test_a_text_is_a_row_with_its_label(tokenizer):
    rows = make_rows(CLASSES, pairs(("the old river",), ("",)), tokenizer, max_length=64)
    assert rows.ids[0].tolist() == tokenizer.row(tokenizer.encode("the old river"))
    assert rows.ids[1].tolist() == [tokenizer.bos_id, tokenizer.eos_id]
    assert rows.ids[0].dtype == rows.second_starts.dtype == rows.targets.dtype == np.int32
    assert rows.targets.tolist() == [1, 1]
    assert rows.second_starts.tolist() == [len(row) for row in rows.ids]
    assert (len(rows), rows.group_size, rows.num_cut) == (2, 1, 0)


def test_the_second_text_begins_behind_the_separators(byte_bpe, word_pieces):
    for tokenizer, num_separators in ((byte_bpe, 2), (word_pieces, 1)):
        examples = pairs(("the old", "river"), ("", "river"), ("the", ""))
        rows = make_rows(CLASSES, examples, tokenizer, max_length=64)
        for example, row, start in zip(examples, rows.ids, rows.second_starts, strict=True):
            first, second = map(tokenizer.encode, example.texts)
            assert start == 1 + len(first) + num_separators
            assert row[start:].tolist() == [*second, tokenizer.eos_id]
            assert row.tolist() == tokenizer.row(first, second)


def bert_truncated(first, second, room):
    """`_truncate_seq_pair` of BERT."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


@given(TEXTS, TEXTS, st.integers(6, 40))
def test_a_pair_that_is_too_long_is_cut_as_in_bert(byte_bpe, first, second, max_length):
    rows = make_rows(CLASSES, pairs((first, second)), byte_bpe, max_length=max_length)
    ids = byte_bpe.encode(first), byte_bpe.encode(second)
    wanted = bert_truncated(*ids, max_length - 4)
    assert rows.ids[0].tolist() == byte_bpe.row(*wanted)
    assert rows.num_cut == (sum(map(len, ids)) > max_length - 4)


@given(TEXTS, st.integers(3, 40))
def test_a_text_that_is_too_long_loses_its_end(byte_bpe, text, max_length):
    rows = make_rows(CLASSES, pairs((text,)), byte_bpe, max_length=max_length)
    ids = byte_bpe.encode(text)
    assert rows.ids[0].tolist() == byte_bpe.row(ids[: max_length - 2])
    assert rows.num_cut == (len(ids) > max_length - 2)


def test_numbers_are_shifted_and_scaled(byte_bpe):
    examples = [TextExample("0", ("the",), 5.0), TextExample("1", ("old",), 2.0)]
    rows = make_rows(NUMBERS, examples, byte_bpe, max_length=8)
    assert rows.targets.dtype == np.float32
    assert rows.targets.tolist() == [1.0, 0.25]


def test_a_split_without_labels_has_no_targets(byte_bpe):
    examples = pairs(("the",), ("old",), label=None)
    assert make_rows(CLASSES, examples, byte_bpe, max_length=8).targets is None
    with pytest.raises(UserError, match="1 of 2 examples of a split have no label"):
        make_rows(CLASSES, [*pairs(("the",)), examples[1]], byte_bpe, max_length=8)


def test_more_texts_than_are_encoded_at_once(byte_bpe, monkeypatch):
    examples = pairs(*((WORDS[i % 8], WORDS[i % 5]) for i in range(50)))
    wanted = make_rows(CLASSES, examples, byte_bpe, max_length=16)
    monkeypatch.setattr("roberta_jax.tasks.features._BATCH_TEXTS", 7)
    rows = make_rows(CLASSES, examples, byte_bpe, max_length=16)
    assert [row.tolist() for row in rows.ids] == [row.tolist() for row in wanted.ids]


# Choice.


def choice(*options, passage="the old river", label=0):
    return ChoiceExample("q1", passage, options, label)


def test_options_of_a_question_are_rows_with_the_passage_behind_them(tokenizer):
    example = choice("the wind", "the stone", "old", label=2)
    rows = make_rows(CHOICE, [example], tokenizer, max_length=64, max_option_tokens=8)
    assert (len(rows), rows.group_size, rows.targets.tolist()) == (1, 3, [2])
    for row, option in zip(rows.ids, example.options, strict=True):
        wanted = tokenizer.row(*map(tokenizer.encode, (option, example.passage)))
        assert row.tolist() == wanted


def test_a_long_option_keeps_its_end_and_a_long_passage_its_beginning(byte_bpe):
    example = choice("the old river wind", "stone", passage="the old bridge " * 20)
    rows = make_rows(CHOICE, [example], byte_bpe, max_length=24, max_option_tokens=3)
    options = [byte_bpe.encode(option)[-3:] for option in example.options]
    passage = byte_bpe.encode(example.passage)
    for row, option in zip(rows.ids, options, strict=True):
        assert row.tolist() == byte_bpe.row(option, passage[: 24 - 4 - len(option)])
    assert rows.num_cut == 2


def test_questions_must_have_equally_many_options(byte_bpe):
    examples = [choice("a", "b"), choice("a", "b", "c")]
    with pytest.raises(UserError, match="question q1 has 3 options, and those before it have 2"):
        make_rows(CHOICE, examples, byte_bpe, max_length=64, max_option_tokens=8)


# Spans.


def span_rows(tokenizer, examples, max_length=20, **settings):
    settings = {"window_stride": 4, "max_question_tokens": 4, **settings}
    return make_rows(SPAN, examples, tokenizer, max_length=max_length, **settings)


@st.composite
def questions(draw):
    passage = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40))
    first = draw(st.integers(0, len(passage) - 1))
    last = draw(st.integers(first, min(first + 2, len(passage) - 1)))
    start = len(" ".join([*passage[:first], ""]))
    text = " ".join(passage[first : last + 1])
    answer = Answer(text, start)
    question = draw(TEXTS)
    return QuestionExample("q", question, " ".join(passage), (answer,))


@given(questions())
def test_the_target_of_a_window_is_the_answer_where_it_is_wholly_there(tokenizer, example):
    rows = span_rows(tokenizer, [example])
    (answer,) = example.answers
    ids, offsets = tokenizer.encode_with_offsets(example.passage)
    num_tokens = sum(
        begin < answer.start + len(answer.text) and end > answer.start and begin < end
        for begin, end in offsets
    )
    found = 0
    for row, start, target, window in zip(
        rows.ids, rows.second_starts, rows.targets, rows.windows, strict=True
    ):
        assert len(row) <= 20 and window.example == 0
        inside = window.offsets[:, 0] >= 0
        assert np.flatnonzero(inside).tolist() == list(range(start, len(row) - 1))
        assert not window.best[~inside].any()
        begins_in = window.offsets[inside, 0].min() <= answer.start
        ends_in = window.offsets[inside, 1].max() >= answer.start + len(answer.text)
        assert target.any() == (begins_in and ends_in)
        if target.any():
            found += 1
            first, last = target
            begin, end = window.offsets[first, 0], window.offsets[last, 1]
            # A token that the answer's end cuts is part of it: "river" of "rivers".
            assert answer.text in example.passage[begin:end]
            assert last - first + 1 >= num_tokens
    assert rows.num_unreachable == (not found)
    best = np.concatenate(
        [np.array(row)[window.best] for row, window in zip(rows.ids, rows.windows, strict=True)]
    )
    assert len(best) == len(ids)


def test_a_row_is_question_and_window(byte_bpe):
    # SQuAD has questions with blanks at their ends.
    example = QuestionExample("q", "  the old river wind ", "stone bridge " * 10, ())
    rows = span_rows(byte_bpe, [example, example], max_question_tokens=3)
    question = byte_bpe.encode(example.question.strip())[:3]
    passage = byte_bpe.encode(example.passage)
    assert rows.ids[0].tolist() == byte_bpe.row(question, passage[:13])
    assert rows.ids[1].tolist() == byte_bpe.row(question, passage[4:17])
    assert rows.num_cut == 2 < len(rows.ids)  # Questions, not windows.
    assert rows.targets is None and rows.num_unreachable == 0
    assert [w.example for w in rows.windows] == sorted([0, 1] * (len(rows.ids) // 2))


def test_questions_without_an_answer_point_at_the_first_token(byte_bpe):
    passage = "the old river"
    examples = [
        QuestionExample("a", "wind", passage, (Answer("old", 4),)),
        QuestionExample("b", "wind", passage, ()),
        QuestionExample("c", "wind", "", ()),
        QuestionExample("d", "wind", passage, (Answer("older", -1),)),
    ]
    rows = span_rows(byte_bpe, examples)
    assert rows.targets[0].all() and not rows.targets[1:].any()
    assert rows.ids[2].tolist() == byte_bpe.row(byte_bpe.encode("wind"), [])
    assert rows.num_unreachable == 1  # The one whose place is unknown.


def test_an_answer_longer_than_every_window_is_counted(byte_bpe):
    passage = "the old river " * 30
    rows = span_rows(byte_bpe, [QuestionExample("a", "wind", passage, (Answer(passage, 0),))])
    assert not rows.targets.any() and rows.num_unreachable == 1


# Tokens.


@given(st.lists(st.sampled_from([*WORDS, "", " ", "é", "日本", "a b"]), min_size=1, max_size=12))
def test_the_first_token_of_a_word_has_its_label(tokenizer, words):
    labels = tuple(i % 3 for i in range(len(words)))
    example = WordsExample("0", tuple(words), labels)
    rows = make_rows(TOKENS, [example], tokenizer, max_length=200)
    (ids,), (target,), (places,) = rows.ids, rows.targets, rows.word_places
    assert ids.tolist() == tokenizer.row(tokenizer.encode(" ".join(words)))
    assert places.dtype == target.dtype == np.int32
    text, offsets = " ".join(words), tokenizer.encode_with_offsets(" ".join(words))[1]
    begin = 0
    for word, place, label in zip(words, places, labels, strict=True):
        overlapping = [
            number + 1
            for number, (b, e) in enumerate(offsets)
            if b < e and b < begin + len(word) and e > begin
        ]
        assert place == (overlapping[0] if overlapping else -1)
        assert place < 0 or target[place] == label
        begin += len(word) + 1
    assert begin == len(text) + 1
    assert (target != NO_LABEL).sum() == (places >= 0).sum()


def test_a_token_with_the_blank_before_it_belongs_to_the_word_behind():
    words = ("ab", "c", "", "de")
    #                   ab      c       both de and e   nothing
    offsets = np.array([[0, 2], [2, 4], [4, 7], [7, 8], [8, 8]])
    assert _first_tokens(words, offsets).tolist() == [0, 1, -1, 2]
    assert _first_tokens(("ab", "c"), np.array([[0, 4]])).tolist() == [0, -1]
    assert _first_tokens(words, offsets[:0]).tolist() == [-1] * 4


def test_words_behind_the_limit_have_no_place(byte_bpe):
    words = ("the",) * 20
    example = WordsExample("0", words, (1,) * 20)
    whole = make_rows(TOKENS, [example], byte_bpe, max_length=200)
    rows = make_rows(TOKENS, [example], byte_bpe, max_length=12)
    (places,) = rows.word_places
    assert len(rows.ids[0]) == 12 and rows.num_cut == 1 and whole.num_cut == 0
    kept = whole.word_places[0] < 11
    assert (places[kept] == whole.word_places[0][kept]).all() and (places[~kept] == -1).all()
    assert (rows.targets[0] == 1).sum() == kept.sum()
    unlabelled = WordsExample("0", words, None)
    assert make_rows(TOKENS, [unlabelled], byte_bpe, max_length=12).targets is None


# What cannot work.


@pytest.mark.parametrize(
    ("task", "example", "max_length", "message"),
    [
        (CLASSES, pairs(("the", "old"))[0], 5, r"max_length is 5.*at least 6"),
        (CLASSES, pairs(("the",))[0], 2, r"max_length is 2.*at least 3"),
        (TOKENS, WordsExample("0", ("the",), None), 2, "no room for a word"),
        (SPAN, QuestionExample("a", "the", "old", ()), 75, r"at least 76, or lower max_question"),
        (CHOICE, choice("a", "b"), 139, r"at least 140, or lower max_option_tokens"),
    ],
)
def test_a_row_must_have_room(byte_bpe, task, example, max_length, message):
    with pytest.raises(UserError, match=message):
        make_rows(task, [example], byte_bpe, max_length=max_length)
    make_rows(task, [example], byte_bpe, max_length=max_length + 1)


def test_settings_that_cut_nothing_useful_are_refused(byte_bpe):
    question = QuestionExample("a", "the", "old", ())
    with pytest.raises(UserError, match="max_question_tokens is 0"):
        span_rows(byte_bpe, [question], max_question_tokens=0)
    with pytest.raises(UserError, match="window_stride is 0"):
        span_rows(byte_bpe, [question], window_stride=0)
