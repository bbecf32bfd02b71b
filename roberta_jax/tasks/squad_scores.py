"""SQuAD's exact match and F1, equal to those of the official scripts (1.1 and 2.0).

Both scripts normalise and compare alike. They differ in texts of which the normalisation leaves
nothing, such as "The": in 2.0 they are no answer and match the empty prediction, in 1.1 they are
answers that share no word with anything. A score is a fraction here; the scripts print percent.
"""

import collections
import dataclasses
import re
import string
from collections.abc import Sequence

import numpy as np

from roberta_jax.tasks.examples import QuestionExample

# Only these: the scripts keep the marks of other alphabets and typographic quotes.
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles, and spaces beyond one per gap."""
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(answer: str, prediction: str) -> float:
    """1 where the normalised texts are equal, otherwise 0."""
    return float(normalise(answer) == normalise(prediction))


def f1(answer: str, prediction: str) -> float:
    """F1 over the words of the normalised texts, each word as often as it occurs.

    Where either has no words: 1 if neither has, otherwise 0.
    """
    gold, predicted = normalise(answer).split(), normalise(prediction).split()
    if not gold or not predicted:
        return float(gold == predicted)
    same = sum((collections.Counter(gold) & collections.Counter(predicted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


@dataclasses.dataclass(frozen=True, slots=True)
class QuestionScores:
    """Scores of each question, the best over its answers, before any threshold.

    Attributes:
      exact: float64 [N].
      f1: float64 [N].
      has_answer: bool [N].
      answered: bool [N], whether the prediction is a text.
    """

    exact: np.ndarray
    f1: np.ndarray
    has_answer: np.ndarray
    answered: np.ndarray


def question_scores(
    examples: Sequence[QuestionExample], predictions: Sequence[str], *, unanswerable: bool
) -> QuestionScores:
    """Scores every question; one without an answer is right where the prediction is "".

    Args:
      examples: N questions.
      predictions: N texts, "" for no answer.
      unanswerable: whether to follow the script of 2.0, otherwise that of 1.1.
    """
    exact, overlap = [], []
    for example, prediction in zip(examples, predictions, strict=True):
        answers = [answer.text for answer in example.answers]
        if unanswerable:
            answers = [answer for answer in answers if normalise(answer)]
        exact.append(max(exact_match(answer, prediction) for answer in answers or [""]))
        shares = [f1(answer, prediction) for answer in answers or [""]]
        if not unanswerable and not normalise(prediction):
            shares = [0.0]
        overlap.append(max(shares))
    return QuestionScores(
        exact=np.array(exact, np.float64),
        f1=np.array(overlap, np.float64),
        has_answer=np.array([bool(example.answers) for example in examples], bool),
        answered=np.array([bool(prediction) for prediction in predictions], bool),
    )


def apply_threshold(
    scores: np.ndarray, no_answer: np.ndarray, has_answer: np.ndarray, threshold: float
) -> np.ndarray:
    """Scores [N] once questions with a no-answer score above the threshold are left unanswered."""
    return np.where(no_answer > threshold, (~has_answer).astype(np.float64), scores)


def best_threshold(
    scores: np.ndarray, no_answer: np.ndarray, has_answer: np.ndarray, answered: np.ndarray
) -> tuple[float, float]:
    """The threshold with the best mean score, as `find_best_thresh` of the script of 2.0 finds it.

    It begins with no question answered, and answers one after the other, by rising no-answer score
    and in the order given where those are equal; the first of equally good places wins.

    Args:
      scores: float64 [N], exact match or F1 of each question when it is answered.
      no_answer: float64 [N].
      has_answer: bool [N].
      answered: bool [N], whether the prediction is a text.

    Returns:
      The best mean score, and the threshold: questions with a no-answer score above it stay
      unanswered. Where answering nothing is best the script says 0, since its scores are
      probabilities; so it does here unless a score is below 0, where it is just below the least.
    """
    current = best = float(np.sum(~has_answer))
    threshold = 0.0
    if no_answer.min() < 0:
        threshold = float(np.nextafter(no_answer.min(), -np.inf))
    # An unanswered question without an answer counted as right: with a text it becomes wrong.
    gains = np.where(has_answer, scores, np.where(answered, -1.0, 0.0))
    for index in np.argsort(no_answer, kind="stable"):
        current += gains[index]
        if current > best:
            best, threshold = current, float(no_answer[index])
    return float(best / len(scores)), threshold


def choose_threshold(
    examples: Sequence[QuestionExample], texts: Sequence[str], no_answer: np.ndarray
) -> float:
    """The threshold with the best F1: chosen on a dev split, kept, and used for the test split."""
    scores = question_scores(examples, texts, unanswerable=True)
    return best_threshold(scores.f1, no_answer, scores.has_answer, scores.answered)[1]


def squad_scores(
    examples: Sequence[QuestionExample],
    texts: Sequence[str],
    no_answer: np.ndarray | None,
    threshold: float | None,
) -> dict[str, float]:
    """Every score of the scripts, by name; fractions.

    Args:
      examples: at least one.
      texts: the answer to each question, "" for none.
      no_answer: float64 [N], of a task with unanswerable questions; None otherwise.
      threshold: above which no-answer score a question is left unanswered. None chooses the one
        with the best F1 on these examples, as figures on dev sets are published.

    Returns:
      "exact_match" and "f1"; with unanswerable questions also "has_answer_exact_match",
      "has_answer_f1" and "no_answer_accuracy" (where there are such questions, otherwise 0), and
      "best_exact_match" and "best_f1", each at a threshold of its own.
    """
    raw = question_scores(examples, texts, unanswerable=no_answer is not None)
    if no_answer is None:
        return {"exact_match": float(raw.exact.mean()), "f1": float(raw.f1.mean())}
    best_exact, _ = best_threshold(raw.exact, no_answer, raw.has_answer, raw.answered)
    best_f1, chosen = best_threshold(raw.f1, no_answer, raw.has_answer, raw.answered)
    threshold = chosen if threshold is None else threshold
    exact = apply_threshold(raw.exact, no_answer, raw.has_answer, threshold)
    overlap = apply_threshold(raw.f1, no_answer, raw.has_answer, threshold)
    return {
        "exact_match": float(exact.mean()),
        "f1": float(overlap.mean()),
        "has_answer_exact_match": _mean(exact[raw.has_answer]),
        "has_answer_f1": _mean(overlap[raw.has_answer]),
        "no_answer_accuracy": _mean(exact[~raw.has_answer]),
        "best_exact_match": best_exact,
        "best_f1": best_f1,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
