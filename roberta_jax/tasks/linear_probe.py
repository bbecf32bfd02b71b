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
      UserError: the task is of another kind.
    """
    if task.kind not in KINDS:
        raise UserError(
            f"A linear probe takes {' and '.join(KINDS)}; {task.title} is of the kind {task.kind}. "
            "Set probe.kind=finetune."
        )
    model = (
        sklearn.linear_model.Ridge(alpha=1.0)
        if task.kind == "regression"
        else sklearn.linear_model.LogisticRegression(C=1.0, max_iter=_ROUNDS)
    )
    pipeline = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), model)
    labels = np.array([cast(TextExample, example).label for example in train[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        pipeline.fit(train[0].astype(np.float64), labels)
    values = pipeline.predict(dev[0].astype(np.float64))
    if task.kind == "classification":
        values = values.astype(np.int64)
    return score(task, dev[1], Predictions(values=values))
