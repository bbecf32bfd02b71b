"""The loss of a task, and what its head gives."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.model import Params
from roberta_jax.encoder.task_model import TaskHead, TaskModel, bind_task
from roberta_jax.objective.loss import LossSums, cross_entropy
from roberta_jax.tasks.features import NO_LABEL
from roberta_jax.tasks.task import Task
from roberta_jax.train.inputs import BatchSums


def head_of(task: Task, *, dropout_rate: float = 0.1) -> TaskHead:
    """The head that a task needs; a regression is a classification with one output."""
    return TaskHead(
        task="classification" if task.kind == "regression" else task.kind,
        num_outputs=task.num_outputs,
        dropout_rate=dropout_rate,
        answerable=task.unanswerable,
    )


@dataclasses.dataclass(frozen=True)
class TaskObjective:
    """What is learned of a task; an `Objective` of `train.update`.

    A batch has, of `tasks.batches.TaskBatch`: tokens [B * K, T] int32, token_types [B * K, T] int32
    where the encoder has several, targets, and weights [B] float32, 0 for rows that only fill it.

    Attributes:
      encoder: as it is trained.
      head: on top of it.
      kind: of the task.
      group_size: K, the rows of one prediction.
    """

    encoder: EncoderConfig
    head: TaskHead
    kind: str
    group_size: int = 1

    def inputs(self, batch: dict[str, jax.Array], keys: jax.Array | None) -> dict[str, Any]:
        """The batch with its dropout keys [B * K]; without, nothing is dropped."""
        return {**batch, "keys": keys}

    def counts(self, inputs: dict[str, Any]) -> jax.Array:
        """Predictions of the whole batch: rows, or labelled tokens."""
        return jnp.maximum(self._weights(inputs).sum(), 1.0)

    def loss(
        self, params: Params, inputs: dict[str, Any], counts: jax.Array
    ) -> tuple[jax.Array, BatchSums]:
        """The mean over predictions, as transformers' classes have it."""
        scores, answerable = self.outputs(params, inputs)
        sums = self.sums(scores, answerable, inputs)
        return sums.predictions.loss / counts, sums

    def outputs(self, params: Params, inputs: dict[str, Any]) -> tuple[jax.Array, jax.Array | None]:
        """What the head gives, float32.

        Returns:
          Scores: of classification [B, C], of regression [B], of choice [B, K], of span [B, T, 2]
          with -inf where there is padding, of tokens [B, T, C]. Then the logit of "the row has an
          answer" [B], of a head that has it.
        """
        model: TaskModel = bind_task(self.encoder, self.head, params)
        tokens = inputs["tokens"]
        scores, answerable = model.outputs(
            tokens, inputs.get("keys"), token_types=inputs.get("token_types")
        )
        if self.kind == "regression":
            scores = scores[:, 0]
        elif self.kind == "choice":
            scores = scores.reshape(-1, self.group_size)
        elif self.kind == "span":
            padding = (tokens == self.encoder.pad_id)[..., None]
            scores = jnp.where(padding, -jnp.inf, scores)
        return scores, answerable

    def sums(
        self, scores: jax.Array, answerable: jax.Array | None, inputs: dict[str, Any]
    ) -> BatchSums:
        """Losses and hits over the predictions.

        The loss is cross-entropy in nats; of a regression the squared error; of a span the mean of
        those of its two ends, plus that of answerability where the head has it (paper section 5.2).
        """
        targets, weights = inputs["targets"], self._weights(inputs)
        if self.kind == "regression":
            losses = jnp.square(scores - targets)
            hits = jnp.zeros_like(losses)
        elif self.kind == "span":
            ends = cross_entropy(jnp.swapaxes(scores, 1, 2), targets)  # [B, 2]
            losses = ends.mean(axis=1)
            hits = (scores.argmax(axis=1) == targets).all(axis=1)
            if answerable is not None:
                # log(1 + exp(±x)): the answer begins at `<s>` where there is none.
                sign = jnp.where(targets[:, 0] > 0, -1.0, 1.0)
                losses += jnp.logaddexp(0.0, sign * answerable)
        else:
            losses = cross_entropy(scores, jnp.maximum(targets, 0))
            hits = scores.argmax(axis=-1) == targets
        zero = BatchSums.zero()
        sums = LossSums(
            loss=(losses * weights).sum(),
            correct=(hits * weights).sum(),
            count=weights.sum(),
        )
        return dataclasses.replace(zero, predictions=sums)

    def _weights(self, inputs: dict[str, Any]) -> jax.Array:
        """[B], or [B, T] of tokens."""
        weights = inputs["weights"]
        if self.kind == "tokens":
            weights = weights[:, None] * (inputs["targets"] != NO_LABEL)
        return weights
