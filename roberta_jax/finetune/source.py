"""The encoder that fine-tuning begins with: of a pretrained model, or of a fine-tuned one."""

import dataclasses
import pathlib

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import EncoderConfig, TaskModelConfig
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.encoder.attention import check_implementation
from roberta_jax.encoder.model import Params
from roberta_jax.finetune.model_folder import find_task_model, read_task_model
from roberta_jax.inference.source import open_source
from roberta_jax.interop.export_model import origin_family
from roberta_jax.interop.huggingface import (
    family_of,
    is_huggingface_folder,
    read_huggingface_encoder,
)
from roberta_jax.interop.weights import ENCODER_BRANCHES


@dataclasses.dataclass(frozen=True)
class StartingEncoder:
    """An encoder to begin with.

    Attributes:
      config: its shape, with the dropout of the run.
      params: the branches "embedding" and "layers", and "pooler" of a model that has learned to
        tell next sentences: the dense layer on `<s>`. {} where the weights are to be drawn.
      tokenizer: its vocabulary.
      family: the architecture of transformers.
      finetuned_for: the name of the task that it was fine-tuned for here; "" for none.
      description: where it comes from.
    """

    config: EncoderConfig
    params: Params
    tokenizer: Tokenizer
    family: str
    finetuned_for: str
    description: str


def encoder_branches(params: Params) -> Params:
    """What fine-tuning begins with of a model's weights; see `StartingEncoder.params`."""
    kept = {name: params[name] for name in (*ENCODER_BRANCHES, "pooler") if name in params}
    if "next_sentence_head" in params:
        kept["pooler"] = params["next_sentence_head"]["dense"]
    return kept


def open_encoder(
    source: str | pathlib.Path, mesh: Mesh, settings: TaskModelConfig, *, task: str = ""
) -> StartingEncoder:
    """Reads the encoder.

    Args:
      source: a pretraining workdir, a Hugging Face folder of any class, a fairseq folder, or a
        fine-tuned model.
      mesh: where its weights are placed, whole on every device.
      settings: dropout and how it computes.
      task: of a fine-tuning workdir: whose model, if it is there.

    Raises:
      UserError: there is no model, or it cannot be read.
    """
    folder = local_path(source)
    finetuned, finetuned_for = find_task_model(folder, task) or find_task_model(folder), ""
    with jax.set_mesh(mesh):
        if finetuned is not None:
            model = read_task_model(finetuned, mesh)
            encoder, params, tokenizer = model.encoder, model.params, model.tokenizer
            family, description = model.family, f"{folder}, fine-tuned for {model.task.title}"
            finetuned_for = model.task.name
        elif is_huggingface_folder(folder):
            whole = NamedSharding(mesh, P())
            foreign = read_huggingface_encoder(
                folder, put=lambda path, array: jax.device_put(array, whole)
            )
            encoder, params, tokenizer = foreign.config, foreign.params, foreign.tokenizer
            family, description = foreign.family, str(folder)
        else:
            config, params, tokenizer, step = open_source(folder, mesh)
            encoder = config.encoder
            family = origin_family(folder) or family_of(encoder, tokenizer)
            description = f"{folder}, step {step:,}" if step else str(folder)
    dtype = settings.compute_dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    encoder = dataclasses.replace(
        encoder,
        embedding_dropout_rate=settings.embedding_dropout_rate,
        dropout_rate=settings.dropout_rate,
        attention_dropout_rate=settings.attention_dropout_rate,
        activation_dropout_rate=0.0,
        compute_dtype=dtype,
        rematerialization=settings.rematerialization,
        attention_implementation="auto",
        next_sentence_head=False,
    )
    check_implementation(encoder)
    if settings.random_weights:
        params, description = {}, f"random weights, in the shape of {description}"
    kept = encoder_branches(params)
    return StartingEncoder(encoder, kept, tokenizer, family, finetuned_for, description)
