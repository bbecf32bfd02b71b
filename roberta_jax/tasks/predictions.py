"""What a model says of the examples of a split."""

import dataclasses
from collections.abc import Sequence

import numpy as np


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
        that of the best answer; the answers in `values` are given as if there always were one.
    """

    values: np.ndarray | Sequence[str] | Sequence[np.ndarray]
    probabilities: np.ndarray | None = None
    no_answer: np.ndarray | None = None
