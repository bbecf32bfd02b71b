"""A linear model on features that are given: what they tell without being changed."""

import warnings
from collections.abc import Sequence
from typing import cast

import numpy as np
import sklearn.exceptions
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing

from roberta_jax.errors import UserError
from roberta_jax.tasks.examples import Example, TextExample
from roberta_jax.tasks.predictions import Predictions
from roberta_jax.tasks.scores import score
from roberta_jax.tasks.task import Task

KINDS = ("classification", "regression")
# Rounds of the solver: far from converging or not, the same features give the same scores.
_ROUNDS = 200


def check_kind(task: Task) -> None:
    """Raises UserError where no linear model can answer a task of this kind."""
    if task.kind not in KINDS:
        raise UserError(
            f"A linear probe takes {' and '.join(KINDS)}; {task.title} is of the kind {task.kind}. "
            "Set probe.kind=finetune."
        )


def check_classes(task: Task, train: Sequence[Example]) -> None:
    """Raises UserError where the training examples are all of one class."""
    labels = _labels(train)
    if task.kind == "classification" and len(set(labels)) < 2:
        raise UserError(
            f"The linear probe sees {len(labels):,} training examples of {task.title}, all of the "
            f"class {task.labels[int(labels[0])]!r}, and needs two classes. Raise "
            "probe.train_examples, or give it files in which other classes occur."
        )


def linear_scores(
    task: Task,
    train: tuple[np.ndarray, Sequence[Example]],
    dev: tuple[np.ndarray, Sequence[Example]],
) -> dict[str, float]:
    """The scores on dev of a logistic or ridge regression (penalty 1) on standardised features.

    Args:
      task: classification or regression.
      train: features float [N, D] and the examples that they are of.
      dev: likewise.

    Raises:
      UserError: as `check_kind` and `check_classes`.
    """
    check_kind(task)
    check_classes(task, train[1])
    model = (
        sklearn.linear_model.Ridge(alpha=1.0)
        if task.kind == "regression"
        else sklearn.linear_model.LogisticRegression(C=1.0, max_iter=_ROUNDS)
    )
    pipeline = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        pipeline.fit(train[0].astype(np.float64), np.array(_labels(train[1])))
    values = pipeline.predict(dev[0].astype(np.float64))
    if task.kind == "classification":
        values = values.astype(np.int64)
    return score(task, dev[1], Predictions(values=values))


def _labels(examples: Sequence[Example]) -> list[float]:
    """Of training examples, which have them."""
    return [cast(float, cast(TextExample, example).label) for example in examples]
