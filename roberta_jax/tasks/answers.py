"""Logits of windows → the answer to each question, as a text of its passage.

As BERT's run_squad.py does it, but the best pair of first and last token is searched among all that
are allowed, where BERT looks at the 20 best of each only.
"""

from collections.abc import Sequence

import numpy as np

from roberta_jax.tasks.examples import QuestionExample
from roberta_jax.tasks.features import TaskRows

MAX_ANSWER_TOKENS = 30
# Less than any sum of two logits, and finite: differences of it stay numbers.
_NEVER = -1e30


def best_answers(
    examples: Sequence[QuestionExample],
    rows: TaskRows,
    values: Sequence[np.ndarray],
    answerable: np.ndarray | None = None,
) -> tuple[list[str], np.ndarray]:
    """The best answer to each question over its windows.

    An answer begins at a token that has most context in its window (`Window.best`), ends at the
    same or a later token of the passage in that window, and has at most MAX_ANSWER_TOKENS tokens.
    Its score is the sum of the two logits. Among equal ones the first window wins, then the first
    token, then the shorter answer.

    The score of no answer is, as in run_squad.py, the least over the windows of the two logits of
    the first token, `<s>`, less the score of the best answer. Where the model has a classifier of
    its own (RoBERTa, section 5.2) it is minus the greatest logit that a window has the answer,
    and the spans have no say in it.

    Args:
      examples: N questions.
      rows: R windows of theirs, every question in at least one.
      values: R arrays float32 [t, 2], logits of the first and of the last token. NaN counts as a
        very small one.
      answerable: float32 [R], the logit that a window has the answer, of a model that gives it.

    Returns:
      N texts as they are in the passages, "" only where no window shows a place for an answer; and
      the score of no answer, float64 [N], finite.
    """
    scores = np.full(len(examples), _NEVER)
    null_scores = np.full(len(examples), -_NEVER)
    has_answer = np.full(len(examples), _NEVER)
    texts = [""] * len(examples)
    for row, (window, pairs) in enumerate(zip(rows.windows, values, strict=True)):
        logits = _finite(pairs)
        number = window.example
        null_scores[number] = min(null_scores[number], logits[0].sum())
        if answerable is not None:
            has_answer[number] = max(has_answer[number], _finite(answerable[row]))
        score, first, last = _best_span(logits, window.offsets, window.best)
        if score > scores[number]:
            scores[number] = score
            begin, end = window.offsets[first, 0], window.offsets[last, 1]
            texts[number] = examples[number].passage[begin:end]
    return texts, -has_answer if answerable is not None else null_scores - scores


def _finite(logits: np.ndarray) -> np.ndarray:
    """In float64; NaN and infinities within bounds that sums of them tell from _NEVER."""
    bound = _NEVER / 8
    return np.nan_to_num(np.asarray(logits, np.float64), nan=bound, neginf=bound, posinf=-bound)


def _best_span(logits: np.ndarray, offsets: np.ndarray, best: np.ndarray) -> tuple[float, int, int]:
    """Score, first and last token of the best answer in a window; the score is _NEVER for none."""
    places = np.flatnonzero(offsets[:, 0] >= 0)
    if not places.size:
        return _NEVER, 0, 0
    # The passage is in one piece, so that its tokens can be counted from its first on.
    low, high = places[0], places[-1] + 1
    starts = np.where(best[low:high], logits[low:high, 0], _NEVER)  # [n]
    ends = np.full(high - low + MAX_ANSWER_TOKENS - 1, _NEVER)
    ends[: high - low] = logits[low:high, 1]
    # [n, MAX_ANSWER_TOKENS]: the logit of the end that many tokens after each start.
    after = np.lib.stride_tricks.sliding_window_view(ends, MAX_ANSWER_TOKENS)
    nearest = after.argmax(axis=1)  # Of each start, the first of its best ends.
    sums = starts + after[np.arange(high - low), nearest]
    first = int(sums.argmax())
    # A start or an end that is not allowed takes the sum below this.
    if sums[first] <= _NEVER / 2:
        return _NEVER, 0, 0
    return float(sums[first]), int(low + first), int(low + first + nearest[first])
