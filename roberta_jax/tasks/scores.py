"""What a task is judged by: the scores that were published for it, as fractions.

The standard ones are scikit-learn's and scipy's, as in GLUE's own script. Where a score is not
defined it is 0, so that a model that predicts one class, or was lost to a NaN, is a bad model and
not an error: Matthews and the correlations of constant predictions, F1 without a positive.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

import numpy as np
import scipy.stats
import sklearn.metrics

from roberta_jax.errors import UserError
from roberta_jax.tasks.entities import entity_scores
from roberta_jax.tasks.examples import (
    ChoiceExample,
    Example,
    QuestionExample,
    TextExample,
    WordsExample,
)
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.squad_scores import squad_scores
from roberta_jax.tasks.task import Task

_T = TypeVar("_T")

# By kind of task, the scores there are.
SCORES = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews"),
    "regression": ("pearson", "spearman"),
    "choice": ("accuracy", "middle_accuracy", "high_accuracy"),
    "span": (
        "f1",
        "exact_match",
        "has_answer_f1",
        "has_answer_exact_match",
        "no_answer_accuracy",
        "best_f1",
        "best_exact_match",
    ),
    "tokens": ("entity_f1", "entity_precision", "entity_recall", "token_accuracy"),
}
_OF_UNANSWERABLE = SCORES["span"][2:]
_OF_A_GROUP = {"middle_accuracy": "middle", "high_accuracy": "high"}


def check_scores(task: Task) -> None:
    """Raises UserError where the task names a score that its kind does not have."""
    known = SCORES[task.kind]
    if task.kind == "span" and not task.unanswerable:
        known = tuple(name for name in known if name not in _OF_UNANSWERABLE)
    if task.kind == "classification" and len(task.labels) != 2:
        known = tuple(name for name in known if name != "f1")
        if "f1" in task.scores:
            raise UserError(
                f"The score 'f1' is that of two classes, and {task.title} has "
                f"{len(task.labels)}. Use 'macro_f1', the mean over the classes."
            )
    unknown = [name for name in task.scores if name not in known]
    if unknown:
        raise UserError(
            f"{task.title} cannot be judged by {', '.join(map(repr, unknown))}: it is a task of "
            f"the kind {task.kind!r}. Its scores are {', '.join(known)}."
        )


def score(
    task: Task,
    examples: Sequence[Example],
    predictions: Predictions,
    *,
    no_answer_threshold: float | None = None,
) -> dict[str, float]:
    """The scores that the task names, in its order.

    Args:
      task: what is judged.
      examples: of a split with labels, at least one.
      predictions: of those examples.
      no_answer_threshold: of a task with unanswerable questions: above which `no_answer` a question
        is left unanswered. None chooses the one with the best F1 on these examples, which is right
        for the dev split that it is then kept from.

    Returns:
      Name → fraction in [0, 1], of correlations in [-1, 1]. The accuracy of a group of which there
      is no example is left out.

    Raises:
      UserError: a score is not of this kind of task, or the examples have no labels.
    """
    check_scores(task)
    if not examples:
        raise UserError(f"A split of {task.title} has no examples, so it cannot be scored.")
    if task.kind == "span":
        questions = cast(Sequence[QuestionExample], examples)
        texts = cast(Sequence[str], predictions.values)
        found = squad_scores(questions, texts, predictions.no_answer, no_answer_threshold)
        return {name: found[name] for name in task.scores}
    if task.kind == "tokens":
        words = cast(Sequence[WordsExample], examples)
        return _token_scores(task, words, cast(Sequence[np.ndarray], predictions.values))
    truth, predicted = _labels(task, examples), np.asarray(predictions.values)
    if task.kind == "choice":
        return _choice_scores(task, cast(Sequence[ChoiceExample], examples), truth, predicted)
    with _quiet():
        return {name: float(_STANDARD[name](truth, predicted)) for name in task.scores}


def can_be_scored(task: Task, examples: Sequence[Example]) -> bool:
    """Whether the examples have the labels that `score` needs, as most test splits have not."""
    if task.kind == "span":
        # Without an answer, a question of a test split may be one whose answer is kept back.
        answered = [bool(cast(QuestionExample, example).answers) for example in examples]
        return any(answered) if task.unanswerable else all(answered)
    if task.kind == "tokens":
        return all(cast(WordsExample, example).labels is not None for example in examples)
    labelled = cast(Sequence[TextExample | ChoiceExample], examples)
    return all(example.label is not None for example in labelled)


def confusion_matrix(
    task: Task, examples: Sequence[Example], predictions: Predictions
) -> np.ndarray:
    """How often each class was taken for each: int64 [C, C], a row per true class.

    Of classification, over examples; of tokens, over words.
    """
    if task.kind == "tokens":
        truth = np.concatenate([_word_labels(task, example) for example in examples])
        predicted = np.concatenate(cast(Sequence[np.ndarray], predictions.values))
    else:
        truth, predicted = _labels(task, examples), np.asarray(predictions.values)
    num_classes = len(task.labels)
    cells = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def _choice_scores(
    task: Task, examples: Sequence[ChoiceExample], truth: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    groups = np.array([example.group for example in examples])
    found = {}
    for name in task.scores:
        group = _OF_A_GROUP.get(name)
        chosen = slice(None) if group is None else groups == group
        if truth[chosen].size:
            found[name] = float(np.mean(truth[chosen] == predicted[chosen]))
    return found


def _token_scores(
    task: Task, examples: Sequence[WordsExample], predicted: Sequence[np.ndarray]
) -> dict[str, float]:
    truth = [_word_labels(task, example) for example in examples]
    precision, recall, f1 = entity_scores(truth, predicted, task.labels)
    right = np.concatenate(truth) == np.concatenate(predicted)
    found = {
        "entity_f1": f1,
        "entity_precision": precision,
        "entity_recall": recall,
        "token_accuracy": float(right.mean()),
    }
    return {name: found[name] for name in task.scores}


def _labels(task: Task, examples: Sequence[Example]) -> np.ndarray:
    """The true labels [N]: int64 of classes and options, float64 of numbers."""
    labelled = cast(Sequence[TextExample | ChoiceExample], examples)
    labels = [_known(task, example.id, example.label) for example in labelled]
    return np.array(labels, np.float64 if task.kind == "regression" else np.int64)


def _word_labels(task: Task, example: Example) -> np.ndarray:
    words = cast(WordsExample, example)
    return np.array(_known(task, words.id, words.labels), np.int64)


def _known(task: Task, name: str, label: _T | None) -> _T:
    if label is None:
        raise UserError(
            f"Example {name!r} of {task.title} has no label, so predictions of it cannot be "
            "scored. Score a split with labels."
        )
    return label


def _f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return sklearn.metrics.f1_score(truth, predicted, pos_label=1, zero_division=0)


def _macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over the classes that occur in the truth or in the predictions."""
    return sklearn.metrics.f1_score(truth, predicted, average="macro", zero_division=0)


def _pearson(truth: np.ndarray, predicted: np.ndarray) -> float:
    return _correlation(scipy.stats.pearsonr, truth, predicted)


def _spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    return _correlation(scipy.stats.spearmanr, truth, predicted)


def _correlation(
    function: Callable[..., tuple[float, float]], truth: np.ndarray, predicted: np.ndarray
) -> float:
    if len(truth) < 2 or not np.isfinite(predicted).all():
        return 0.0
    value = float(function(truth, predicted)[0])
    return 0.0 if np.isnan(value) else value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the two libraries that a score is not defined: it is 0, as said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        warnings.simplefilter("ignore", scipy.stats.NearConstantInputWarning)
        warnings.filterwarnings("ignore", message="A single label was found")
        yield


_STANDARD: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": sklearn.metrics.accuracy_score,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": sklearn.metrics.matthews_corrcoef,
    "pearson": _pearson,
    "spearman": _spearman,
}
