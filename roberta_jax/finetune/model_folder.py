"""A fine-tuned model on disk: weights, task, tokenizer, and how its rows are made.

A folder with `task.json`, `checkpoints/` (verified, as in a workdir) and `tokenizer/`.
"""

import dataclasses
import json
import pathlib
from typing import Any, Self

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax import config as config_lib
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.config import CheckpointConfig, EncoderConfig
from roberta_jax.data.output_folder import new_folder
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.encoder.model import Params
from roberta_jax.encoder.task_model import TaskHead, abstract_task_params
from roberta_jax.errors import UserError
from roberta_jax.finetune.objective import head_of
from roberta_jax.tasks.finetuned_folder import MODEL_FOLDER, TASK_FILE
from roberta_jax.tasks.task import Task
from roberta_jax.train.workdir import CHECKPOINTS_FOLDER, TOKENIZER_FOLDER

_FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowLimits:
    """How examples become rows; the arguments of `tasks.features.make_rows`."""

    max_length: int
    window_stride: int
    max_question_tokens: int
    max_option_tokens: int

    @classmethod
    def of_encoder(cls, encoder: EncoderConfig) -> Self:
        """Where nobody says more: training's defaults; a short model gets shares of its length."""
        length = min(encoder.max_positions, 512)
        return cls(
            max_length=length,
            window_stride=max(1, min(128, length // 3)),
            max_question_tokens=max(1, min(64, length // 4)),
            max_option_tokens=max(1, min(128, length // 4)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskModelFolder:
    """What a fine-tuned model is, without where it lies.

    Attributes:
      task: what it was fine-tuned for.
      encoder: its shape.
      params: with the head; float32.
      tokenizer: of the encoder.
      limits: of its rows.
      family: the architecture of transformers, one of `interop.names.FAMILIES`.
      no_answer_threshold: of a task with unanswerable questions, chosen on its dev split.
      scores: split → name → fraction, on the dev splits.
      columns: of a user's table: role → name of the column; empty otherwise.
      training: how it was trained, for its model card; empty where that is not known.
    """

    task: Task
    encoder: EncoderConfig
    params: Params
    tokenizer: Tokenizer
    limits: RowLimits
    family: str
    no_answer_threshold: float | None
    scores: dict[str, dict[str, float]]
    columns: dict[str, str]
    training: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def head(self) -> TaskHead:
        """Its head."""
        return head_of(self.task)


def write_task_model(folder: pathlib.Path, model: TaskModelFolder) -> None:
    """Writes the folder, whole or not at all; what stood there is replaced."""
    values = {
        "format": _FORMAT,
        "task": dataclasses.asdict(model.task),
        "encoder": config_lib.to_dict(model.encoder),
        "tokenizer_fingerprint": model.tokenizer.fingerprint,
        "limits": dataclasses.asdict(model.limits),
        "family": model.family,
        "no_answer_threshold": model.no_answer_threshold,
        "scores": model.scores,
        "columns": model.columns,
        "training": model.training,
    }
    with new_folder(folder) as partial:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (partial / TASK_FILE).write_text(text, encoding="utf-8")
        model.tokenizer.save(partial / TOKENIZER_FOLDER)
        with CheckpointStore(partial / CHECKPOINTS_FOLDER, CheckpointConfig()) as store:
            store.save(0, {"params": model.params}, {"task": model.task.name})


def find_task_model(folder: pathlib.Path, task: str = "") -> pathlib.Path | None:
    """The fine-tuned model at a path: the folder itself, or that of a task of a workdir.

    Args:
      folder: of the model, of a task, or a fine-tuning workdir.
      task: which task of a workdir; "" for the only one.

    Returns:
      Its folder; None where there is no such thing.

    Raises:
      UserError: the workdir has models of several tasks, and none was named.
    """
    for place in (folder, folder / MODEL_FOLDER, folder / task / MODEL_FOLDER):
        if (place / TASK_FILE).is_file():
            return place
    found = sorted(folder.glob(f"*/{MODEL_FOLDER}/{TASK_FILE}"))
    if task or not found:
        return None
    if len(found) > 1:
        names = ", ".join(path.parent.parent.name for path in found)
        raise UserError(
            f"{folder} has models of several tasks: {names}. Give the folder of one of them, such "
            f"as {found[0].parent.parent}."
        )
    return found[0].parent


def read_task_model(folder: pathlib.Path, mesh: Mesh) -> TaskModelFolder:
    """A fine-tuned model, its weights whole on every device of the mesh.

    Raises:
      UserError: it is not one, incomplete or damaged.
    """
    path = folder / TASK_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise UserError(
                f"{path} has the format {values['format']}, and this version of roberta_jax reads "
                f"{_FORMAT}. Use the version that wrote it."
            )
        task = task_from(values["task"])
        encoder = config_lib.from_dict(EncoderConfig, values["encoder"])
        limits = RowLimits(**values["limits"])
        rest = {
            name: values[name] for name in ("family", "no_answer_threshold", "scores", "columns")
        }
        rest["training"] = values.get("training", {})
        fingerprint = values["tokenizer_fingerprint"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is no fine-tuned model: it has no {TASK_FILE}. Give the --workdir of "
            "`roberta-jax finetune`, or the folder of a task in it."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}). Copy the model again.") from error
    encoder.attention_implementation = "auto"  # This may be another machine.
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    if tokenizer.fingerprint != fingerprint:
        raise UserError(
            f"{folder / TOKENIZER_FOLDER} holds the tokenizer {tokenizer.fingerprint}, and the "
            f"model was trained with {fingerprint}. Copy the model again."
        )
    whole = NamedSharding(mesh, P())
    target: Any = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
        abstract_task_params(encoder, head_of(task)),
    )
    with CheckpointStore(folder / CHECKPOINTS_FOLDER) as store:
        if store.steps() != [0]:
            raise UserError(f"{folder} has no complete weights. Copy the model again.")
        params = store.restore_part(0, {"params": target}).state["params"]
    return TaskModelFolder(
        task=task, encoder=encoder, params=params, tokenizer=tokenizer, limits=limits, **rest
    )


def task_from(values: dict[str, Any]) -> Task:
    """The task of which JSON has the fields, with lists for tuples.

    Raises:
      KeyError, TypeError, ValueError: it has not.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    fields["published"] = tuple((str(size), float(value)) for size, value in values["published"])
    return Task(**fields)
