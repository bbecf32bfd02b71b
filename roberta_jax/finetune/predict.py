"""Predictions of a fine-tuned model for examples that it has not seen."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import jax
from etils import epath
from jax.sharding import Mesh

from roberta_jax.finetune.evaluate import make_predictor
from roberta_jax.finetune.model_folder import TaskModelFolder, read_task_model
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.rows import BatchMaker
from roberta_jax.tasks.examples import Example
from roberta_jax.tasks.features import make_rows
from roberta_jax.tasks.predictions import Predictions, decide
from roberta_jax.tasks.submission import write_predictions


class Predictor:
    """A fine-tuned model that answers; its programs are compiled once."""

    def __init__(self, model: TaskModelFolder, mesh: Mesh):
        """Reads nothing from disk; call it under the mesh."""
        self.model, self._mesh = model, mesh
        self._params = jax.tree.map(lambda leaf: leaf[None], model.params)  # One seed.

    def __call__(self, examples: Sequence[Example]) -> Predictions:
        """What the model says of examples, whose labels it does not look at.

        A text that is too long is cut, as in training; a long passage is read in windows.
        """
        task, encoder = self.model.task, self.model.encoder
        rows = make_rows(
            task, examples, self.model.tokenizer, **dataclasses.asdict(self.model.limits)
        )
        objective = TaskObjective(encoder, self.model.head, task.kind, rows.group_size)
        maker = BatchMaker(
            self._mesh,
            pad_id=encoder.pad_id,
            token_types=encoder.num_token_types > 1,
            max_length=self.model.limits.max_length,
        )
        (outputs,), _ = make_predictor(objective, maker, 1)(self._params, rows)
        return decide(task, examples, rows, outputs)


def predict_splits(
    folder: pathlib.Path,
    splits: Mapping[str, Sequence[Example]],
    output: pathlib.Path,
    mesh: Mesh,
) -> list[epath.Path]:
    """Writes the predictions of a model for whole splits, in the format of its task.

    Args:
      folder: of the fine-tuned model.
      splits: by name; none asks nothing of the model.
      output: the folder that receives the files.
      mesh: under which this is called.

    Returns:
      The files.
    """
    if not splits:
        return []
    model = read_task_model(folder, mesh)
    predictor = Predictor(model, mesh)
    return [
        path
        for name, examples in splits.items()
        for path in write_predictions(
            output,
            model.task,
            name,
            examples,
            predictor(examples),
            no_answer_threshold=model.no_answer_threshold,
        )
    ]
