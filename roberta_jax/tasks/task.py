"""What a task is: its kind, its labels, what it is judged by."""

import dataclasses

from roberta_jax.errors import UserError

# What is predicted of an example: one of the labels, a number, one of several options, the part of
# a passage that answers a question, a label for every word.
KINDS = ("classification", "regression", "choice", "span", "tokens")
# By kind: what is reported where a task says nothing else, the deciding score first.
_DEFAULT_SCORES = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("pearson", "spearman"),
    "choice": ("accuracy",),
    "span": ("f1", "exact_match"),
    "tokens": ("entity_f1", "token_accuracy"),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task.

    Attributes:
      name: as in commands, such as "sst2".
      title: as in tables, such as "SST-2".
      kind: one of KINDS.
      labels: the classes by number; of classification and tokens only.
      scores: names of `tasks.scores`, at least one; models are chosen by the first.
      dev: the splits that models are judged on; they are chosen by the first.
      test: the splits whose predictions are submitted; most have no labels. Where one has, as
        RACE's, the model that was chosen is scored on it.
      scale: of regression: a target is (label - shift) / scale.
      shift: of regression.
      unanswerable: of span: whether a question may have no answer (SQuAD 2.0).
      starts_from: the task whose fine-tuned encoder this one begins with where it is at hand, as
        RTE, STS-B and MRPC do with MNLI's (paper section 5.1); "" for none.
      published: score of RoBERTa on the first of `dev`, in percent, by size of the model ("base",
        "large"), of the first of `scores`.
    """

    name: str
    title: str
    kind: str
    labels: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    dev: tuple[str, ...] = ("dev",)
    test: tuple[str, ...] = ("test",)
    scale: float = 1.0
    shift: float = 0.0
    unanswerable: bool = False
    starts_from: str = ""
    published: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"The kind of task is {self.kind!r}; it must be one of {KINDS}.")
        if not self.scores:
            object.__setattr__(self, "scores", _DEFAULT_SCORES[self.kind])

    @property
    def num_outputs(self) -> int:
        """Numbers that the head gives of a row, or of a token of it."""
        return {"regression": 1, "choice": 1, "span": 2}.get(self.kind, len(self.labels))
