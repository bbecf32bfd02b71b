"""Predictions of a fine-tuned model for examples that it has not seen."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import jax
from etils import epath
from jax.sharding import Mesh

from roberta_jax.finetune import evaluate
from roberta_jax.finetune.model_folder import TaskModelFolder, read_task_model
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.rows import BatchMaker, cut_texts
from roberta_jax.tasks.examples import Example
from roberta_jax.tasks.features import TaskRows, make_rows
from roberta_jax.tasks.predictions import Predictions, decide
from roberta_jax.tasks.scores import can_be_scored, score
from roberta_jax.tasks.submission import write_predictions


class Predictor:
    """A fine-tuned model that answers; its programs are compiled once."""

    def __init__(self, model: TaskModelFolder, mesh: Mesh, *, may_be_unanswerable: bool = False):
        """Reads nothing from disk; call it under the mesh.

        Args:
          model: whose weights are whole on every device of the mesh.
          mesh: over which rows are split.
          may_be_unanswerable: of span: gives the score of "no answer" too, for a model that was
            not trained to tell.
        """
        self.model, self._mesh = model, mesh
        self.task = model.task
        if may_be_unanswerable and self.task.kind == "span":
            self.task = dataclasses.replace(self.task, unanswerable=True)
        self._params = jax.tree.map(lambda leaf: leaf[None], model.params)  # One seed.
        self._program = functools.cache(self._make_program)

    def rows(self, examples: Sequence[Example]) -> TaskRows:
        """What the model reads of examples.

        A text that is too long is cut, as in training; a long passage is read in windows.
        """
        limits = dataclasses.asdict(self.model.limits)
        return make_rows(self.task, examples, self.model.tokenizer, **limits)

    def __call__(self, examples: Sequence[Example], rows: TaskRows | None = None) -> Predictions:
        """What the model says of examples, whose labels it does not look at.

        Args:
          examples: of the task's kind, at least one.
          rows: `self.rows(examples)`, where the caller has them.
        """
        rows = self.rows(examples) if rows is None else rows
        (outputs,), _ = self._program(rows.group_size)(self._params, rows)
        return decide(self.task, examples, rows, outputs)

    def _make_program(self, group_size: int) -> evaluate.Predictor:
        encoder = self.model.encoder
        maker = BatchMaker(
            self._mesh,
            pad_id=encoder.pad_id,
            token_types=encoder.num_token_types > 1,
            max_length=self.model.limits.max_length,
        )
        objective = TaskObjective(encoder, self.model.head, self.task.kind, group_size)
        return evaluate.make_predictor(objective, maker, 1)


@dataclasses.dataclass(frozen=True)
class SplitPredictions:
    """What came of predicting whole splits.

    Attributes:
      files: that were written.
      scores: of the splits that have labels: split → score → value.
      notes: how many texts of a split were cut.
    """

    files: tuple[epath.Path, ...]
    scores: dict[str, dict[str, float]]
    notes: tuple[str, ...]


def predict_splits(
    folder: pathlib.Path,
    splits: Mapping[str, Sequence[Example]],
    output: pathlib.Path,
    mesh: Mesh,
) -> SplitPredictions:
    """Writes the predictions of a model for whole splits, in the format of its task.

    Args:
      folder: of the fine-tuned model.
      splits: by name; none asks nothing of the model.
      output: the folder that receives the files.
      mesh: under which this is called.
    """
    files: list[epath.Path] = []
    scores: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    if not splits:
        return SplitPredictions((), {}, ())
    model = read_task_model(folder, mesh)
    predictor = Predictor(model, mesh)
    threshold = model.no_answer_threshold
    for name, examples in splits.items():
        rows = predictor.rows(examples)
        if text := cut_texts(model.task, rows, model.limits):
            notes.append(f"{name}: {text}; they were cut")
        found = predictor(examples, rows)
        files += write_predictions(
            output, model.task, name, examples, found, no_answer_threshold=threshold
        )
        if can_be_scored(model.task, examples):
            scores[name] = score(model.task, examples, found, no_answer_threshold=threshold)
    return SplitPredictions(tuple(files), scores, tuple(notes))
