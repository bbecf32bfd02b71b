"""A fine-tuned model → a folder of one of transformers' classes for tasks, with the same scores."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.encoder.model import Params
from roberta_jax.finetune.foreign_task import write_notes
from roberta_jax.finetune.model_folder import TaskModelFolder, read_task_model
from roberta_jax.finetune.task_card import task_card
from roberta_jax.interop.export_model import check_output
from roberta_jax.interop.host_mesh import host_mesh
from roberta_jax.interop.huggingface import write_huggingface
from roberta_jax.interop.model_card import CARD_NAME
from roberta_jax.interop.names import class_name


def export_task_model(
    folder: pathlib.Path,
    output: str | pathlib.Path,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes config.json, model.safetensors, the tokenizer's files and a model card.

    A regression is given in the unit of its labels. Of questions the classifier that tells whether
    there is an answer stays behind: transformers has no class with one.

    Args:
      folder: of the model, as `find_task_model` finds it.
      output: the folder to write.
      dtype: "float32" or "bfloat16", of the stored weights.
      overwrite: replace an earlier export.
      say: takes the summary, line by line.

    Raises:
      UserError: the model is damaged, or something else is at `output`; nothing was written.
    """
    target = local_path(output)
    check_output(target, overwrite)
    mesh = host_mesh()
    with jax.set_mesh(mesh):
        model = read_task_model(folder, mesh)
    rate = model.training.get("head_dropout_rate", model.head.dropout_rate)
    head = dataclasses.replace(model.head, answerable=False, dropout_rate=rate)
    name = class_name(model.family, head.task)
    with new_folder(target) as partial:
        write_huggingface(
            partial,
            exported_params(model),
            model.encoder,
            model.tokenizer,
            family=model.family,
            dtype=dtype,
            head=head,
            labels=model.task.labels,
        )
        write_notes(partial, model)
        card = task_card(model, name=target.resolve().name, class_name=name)
        (partial / CARD_NAME).write_text(card, encoding="utf-8")
        size = sum(path.stat().st_size for path in partial.iterdir())
    if model.head.answerable:
        say(
            f"left out, since transformers' {name} has no place for it: the classifier of whether "
            "there is an answer, and its threshold"
        )
    say(f"{name}, {model.task.title}, {dtype}, {size / 1e6:,.1f} MB, written to {target}")


def exported_params(model: TaskModelFolder) -> Params:
    """The weights as transformers' class has them.

    What a regression's head gives is scaled, (label - shift) / scale; here its projection gives the
    label itself, since transformers' class has no numbers for that.
    """
    params = {name: leaf for name, leaf in model.params.items() if name != "answerable_head"}
    if model.task.kind != "regression":
        return params
    scale, shift = model.task.scale, model.task.shift
    weights = params["head"]["projection"]
    kernel, bias = (np.asarray(weights[name], np.float64) for name in ("kernel", "bias"))
    projection = {
        "kernel": (kernel * scale).astype(np.float32),
        "bias": (bias * scale + shift).astype(np.float32),
    }
    return {**params, "head": {**params["head"], "projection": projection}}
