"""What a model says of the examples of a split."""

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np

from roberta_jax.tasks.answers import best_answers
from roberta_jax.tasks.examples import Example, QuestionExample
from roberta_jax.tasks.features import TaskRows
from roberta_jax.tasks.task import Task


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """What the head gave, on the host, in the order of the rows of `TaskRows`.

    Attributes:
      values: float32; of classification [N, C], of regression [N] (still scaled), of choice
        [N, K], of span R arrays [t, 2], of tokens R arrays [t, C].
      answerable: of a task with unanswerable questions, float32 [R]: the logit of "the row has the
        answer"; None otherwise.
    """

    values: np.ndarray | Sequence[np.ndarray]
    answerable: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Predictions:
    """What is predicted of the examples, in their order.

    Attributes:
      values: of classification and choice int64 [N]; of regression float64 [N], in the labels'
        unit; of span N texts, "" for no answer; of tokens N arrays int64 [words] (a word that was
        cut off has the most frequent class of the row's others, or 0).
      probabilities: of classification and choice, float64 [N, C or K]; None otherwise.
      no_answer: of a task with unanswerable questions, float64 [N]: the score of "no answer" less
        that of the best answer, or of a model with a classifier for it, minus the logit that there
        is an answer; the answers in `values` are given as if there always were one.
    """

    values: np.ndarray | Sequence[str] | Sequence[np.ndarray]
    probabilities: np.ndarray | None = None
    no_answer: np.ndarray | None = None


def decide(
    task: Task, examples: Sequence[Example], rows: TaskRows, outputs: Outputs
) -> Predictions:
    """What the outputs say of the examples.

    Args:
      task: what was asked.
      examples: of a split; labels are not looked at.
      rows: those examples for the model, in their order.
      outputs: of those rows.

    Returns:
      The class or option with the greatest logit (the first of equal ones), with probabilities
      (softmax in float64); numbers in the unit of the labels; the best answers; a class for every
      word, by the logits of its first token.
    """
    if task.kind == "span":
        questions = cast(Sequence[QuestionExample], examples)
        logits_of_rows = cast(Sequence[np.ndarray], outputs.values)
        texts, no_answer = best_answers(questions, rows, logits_of_rows, outputs.answerable)
        return Predictions(values=texts, no_answer=no_answer if task.unanswerable else None)
    if task.kind == "tokens":
        return Predictions(
            values=[
                _word_classes(logits, places)
                for logits, places in zip(outputs.values, rows.word_places, strict=True)
            ]
        )
    logits = np.asarray(outputs.values, np.float64)
    if task.kind == "regression":
        return Predictions(values=logits.reshape(len(logits)) * task.scale + task.shift)
    return Predictions(values=logits.argmax(axis=1), probabilities=_softmax(logits))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _word_classes(logits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """int64 [words] of logits [t, C]; a word that was cut off gets the most frequent class."""
    shown = places >= 0
    classes = np.zeros(len(places), np.int64)
    classes[shown] = np.asarray(logits)[places[shown]].argmax(axis=1)
    if shown.any() and not shown.all():
        classes[~shown] = np.bincount(classes[shown]).argmax()
    return classes
