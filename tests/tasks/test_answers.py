"""The best answer over the windows of a question, against a search of every pair."""

import time

import numpy as np
import pytest

from roberta_jax.tasks.answers import MAX_ANSWER_TOKENS, best_answers
from roberta_jax.tasks.examples import QuestionExample
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.windows import Window


def passage_of(num_words):
    return " ".join(f"w{number}" for number in range(num_words))


def word_offsets(passage):
    ends = np.cumsum([len(word) + 1 for word in passage.split()]) - 1
    return np.stack([np.concatenate([[0], ends[:-1] + 1]), ends], axis=1)


def make_window(example, passage, begin, end, *, best=None, before=3):
    """Words [begin, end) after `before` tokens that are not of the passage, and one after them."""
    outside = -np.ones((before, 2), np.int64)
    offsets = np.concatenate([outside, word_offsets(passage)[begin:end], outside[:1]])
    shown = np.zeros(len(offsets), bool)
    shown[before:-1] = True if best is None else best
    return Window(example=example, offsets=offsets.astype(np.int32), best=shown)


def make_rows(windows):
    lengths = [len(window.best) for window in windows]
    return TaskRows(
        ids=[np.zeros(length, np.int32) for length in lengths],
        second_starts=np.zeros(len(windows), np.int32),
        targets=None,
        windows=windows,
    )


def make_questions(*passages):
    return [
        QuestionExample(id=str(number), question="?", passage=passage, answers=())
        for number, passage in enumerate(passages)
    ]


def random_logits(windows, generator):
    return [generator.normal(size=(len(window.best), 2)).astype(np.float32) for window in windows]


def every_pair(examples, windows, values):
    """(score, text) of each question, by the words of the docstring."""
    found = [(-np.inf, "")] * len(examples)
    for window, logits in zip(windows, values, strict=True):
        for first in range(len(logits)):
            for last in range(first, min(len(logits), first + MAX_ANSWER_TOKENS)):
                shown = window.offsets[first, 0] >= 0 and window.offsets[last, 0] >= 0
                score = float(logits[first, 0]) + float(logits[last, 1])
                if shown and window.best[first] and score > found[window.example][0]:
                    begin, end = window.offsets[first, 0], window.offsets[last, 1]
                    found[window.example] = (score, examples[window.example].passage[begin:end])
    return found


def test_no_pair_of_tokens_is_better():
    generator = np.random.default_rng(1)
    for _ in range(30):
        passages = [passage_of(int(generator.integers(1, 80))) for _ in range(3)]
        windows = []
        for number, passage in enumerate(passages):
            size = len(passage.split())
            for begin in range(0, size, 25):
                end = min(size, begin + 50)
                best = generator.random(end - begin) < 0.6
                windows.append(make_window(number, passage, begin, end, best=best))
        examples, values = make_questions(*passages), random_logits(windows, generator)
        texts, no_answer = best_answers(examples, make_rows(windows), values)
        expected = every_pair(examples, windows, values)
        assert texts == [text for _, text in expected]
        for number, (score, _) in enumerate(expected):
            null = min(
                float(logits[0, 0]) + float(logits[0, 1])
                for window, logits in zip(windows, values, strict=True)
                if window.example == number
            )
            if np.isfinite(score):
                assert no_answer[number] == pytest.approx(null - score, abs=1e-12)


def one_window(num_words, **peaks):
    passage = passage_of(num_words)
    window = make_window(0, passage, 0, num_words)
    values = np.zeros((num_words + 4, 2), np.float32)
    for column, name in enumerate(("starts", "ends")):
        for place, logit in peaks.get(name, {}).items():
            values[place + 3, column] = logit
    return best_answers(make_questions(passage), make_rows([window]), [values])


def test_an_answer_ends_where_it_begins_or_later():
    texts, _ = one_window(5, starts={3: 5.0}, ends={1: 9.0, 3: 1.0})
    assert texts == ["w0 w1"]  # 0 + 9 is more than 5 + 1.
    texts, _ = one_window(5, starts={3: 5.0}, ends={1: 4.0, 3: 1.0})
    assert texts == ["w3"]


def test_the_longest_answer_has_thirty_tokens():
    texts, _ = one_window(40, starts={2: 9.0}, ends={31: 5.0, 32: 6.0})
    assert texts[0].split() == [f"w{number}" for number in range(2, 32)]
    assert len(texts[0].split()) == MAX_ANSWER_TOKENS == 30


def test_tokens_that_are_not_of_the_passage_are_no_answer():
    # `<s>`, the question, and the last `</s>`.
    texts, _ = one_window(3, starts={-3: 50.0, 1: 1.0, 3: 50.0}, ends={-1: 50.0, 2: 1.0, 3: 50.0})
    assert texts == ["w1 w2"]


def test_the_text_is_that_of_the_passage_whatever_it_holds():
    passage = "caf\u00e9  \u2014 \U0001f3e0 x"
    offsets = np.array([[-1, -1], [0, 4], [6, 7], [8, 9], [10, 11]], np.int32)
    window = Window(example=0, offsets=offsets, best=offsets[:, 0] >= 0)
    values = np.zeros((5, 2), np.float32)
    values[1, 0] = values[3, 1] = 1
    texts, _ = best_answers(make_questions(passage), make_rows([window]), [values])
    assert texts == ["caf\u00e9  \u2014 \U0001f3e0"]


def test_no_answer_is_the_least_null_score_less_the_best_answer_of_all_windows():
    passage = passage_of(4)
    windows = [make_window(0, passage, 0, 2), make_window(0, passage, 2, 4)]
    values = [np.zeros((6, 2), np.float32) for _ in windows]
    values[0][0] = [1.0, 2.0]
    values[1][0] = [4.0, -2.0]
    values[0][3, 0], values[1][4, 0] = 5.0, 7.0
    texts, no_answer = best_answers(make_questions(passage), make_rows(windows), values)
    assert texts == ["w3"]
    assert no_answer.tolist() == [2.0 - 7.0]


def test_a_classifier_of_answerable_windows_speaks_alone():
    passage = passage_of(4)
    windows = [make_window(0, passage, 0, 2), make_window(0, passage, 2, 4)]
    windows.append(make_window(1, passage, 0, 4))
    values = random_logits(windows, np.random.default_rng(0))
    answerable = np.array([-3.0, 2.5, -1.0], np.float32)
    examples = make_questions(passage, passage)
    _, no_answer = best_answers(examples, make_rows(windows), values, answerable)
    assert no_answer.tolist() == [-2.5, 1.0]


def test_a_window_without_a_place_for_an_answer_and_lost_logits_stay_finite():
    passage = passage_of(4)
    windows = [
        make_window(0, passage, 0, 4, best=False),
        make_window(1, passage, 0, 4),
        make_window(2, passage, 0, 0),
    ]
    values = [np.full((len(window.best), 2), np.nan, np.float32) for window in windows]
    values[0][:] = 1.0
    examples = make_questions(passage, passage, passage)
    texts, no_answer = best_answers(examples, make_rows(windows), values)
    assert texts == ["", "w0", ""]
    assert np.isfinite(no_answer).all() and no_answer[0] > 1e20
    _, no_answer = best_answers(examples, make_rows(windows), values, np.full(3, np.nan))
    assert np.isfinite(no_answer).all()


def test_a_dev_set_takes_seconds():
    passage = passage_of(320)
    windows = [make_window(number, passage, 0, 320) for number in range(500)]
    values = random_logits(windows, np.random.default_rng(0))
    examples, rows = make_questions(*[passage] * 500), make_rows(windows)
    start = time.process_time()
    best_answers(examples, rows, values)
    assert time.process_time() - start < 2  # 10,000 questions in less than 40 s, at its slowest.
