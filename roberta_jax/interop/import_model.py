"""A model of another system → a workdir, with which everything goes on as with one's own."""

import json
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding

from roberta_jax import config as config_lib
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.config import DataConfig, PretrainConfig
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.encoder.model import count_params
from roberta_jax.errors import UserError
from roberta_jax.interop.fairseq import (
    DICTIONARY_NAME,
    MODEL_NAME,
    is_fairseq_folder,
    read_fairseq,
)
from roberta_jax.interop.host_mesh import host_mesh
from roberta_jax.interop.huggingface import (
    ForeignModel,
    is_huggingface_folder,
    read_huggingface,
)
from roberta_jax.interop.transformers_config import CONFIG_NAME
from roberta_jax.parallel.tables import spec_of
from roberta_jax.tasks.finetuned_folder import check_not_finetuned
from roberta_jax.train.workdir import (
    CHECKPOINTS_FOLDER,
    ORIGIN_FILE,
    TOKENIZER_FOLDER,
    write_config,
)
from roberta_jax.version import __version__


def import_model(
    model: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes the workdir of a masked language model.

    Args:
      model: a Hugging Face folder, or one with fairseq's model.pt, dict.txt and BPE files.
      output: the workdir to write.
      overwrite: replace an earlier import.
      say: takes the summary, line by line.

    Raises:
      UserError: the model cannot be read or is not supported, or there is something else at
        `output`; nothing was written.
    """
    source, target = local_path(model), local_path(output)
    if target.exists() and not (overwrite and (target / ORIGIN_FILE).exists()):
        raise UserError(
            f"The output {target} exists. Choose another --output"
            + (", or --overwrite to replace it." if (target / ORIGIN_FILE).exists() else ".")
        )
    mesh = host_mesh()

    def put(path: str, array: np.ndarray) -> jax.Array:
        return jax.device_put(array, NamedSharding(mesh, spec_of(path)))

    foreign = read_model(source, put=put)
    encoder, tokenizer = foreign.config, foreign.tokenizer
    config = PretrainConfig(
        data=DataConfig(
            sequence_length=encoder.max_positions, tokenizer_fingerprint=tokenizer.fingerprint
        ),
        encoder=encoder,
    )
    origin = {
        "model": source.resolve().name,
        "family": foreign.family,
        "left_out": foreign.left_out,
        "imported_by": __version__,
    }
    with new_folder(target) as partial:
        write_config(partial, config)
        tokenizer.save(partial / TOKENIZER_FOLDER)
        with CheckpointStore(partial / CHECKPOINTS_FOLDER, config.checkpoint) as store:
            record = {"config": config_lib.to_dict(config), "origin": origin}
            store.save(0, {"params": foreign.params}, record)
        text = json.dumps(origin, indent=2) + "\n"
        (partial / ORIGIN_FILE).write_text(text, encoding="utf-8")
    say(
        f"{origin['family']}: {encoder.num_layers} layers x {encoder.hidden_size}, vocabulary "
        f"{encoder.vocab_size:,}, up to {encoder.max_positions:,} tokens, "
        f"{count_params(encoder):,} parameters"
    )
    if foreign.left_out:
        say(
            "left out, since a masked language model has no place for them: "
            + ", ".join(foreign.left_out)
        )
    say(f"written to {target}")


def read_model(
    source: pathlib.Path, *, put: Callable[[str, np.ndarray], object] = lambda path, array: array
) -> ForeignModel:
    """Reads a model of a system that is known.

    Args:
      source: its folder.
      put: places a weight, given its path, as soon as it is read.

    Raises:
      UserError: it is of no system that is known, incomplete, damaged or not supported.
    """
    if is_fairseq_folder(source) and not is_huggingface_folder(source):
        return read_fairseq(source, put=put)
    if not (source / CONFIG_NAME).exists():
        check_not_finetuned(source)
    if (source / CHECKPOINTS_FOLDER).is_dir():
        raise UserError(
            f"{source} is a workdir already; every command takes it as it is, by --workdir. "
            "`import` makes workdirs of the models of other systems."
        )
    if (source / CONFIG_NAME).exists():
        return read_huggingface(source, put=put)
    raise UserError(
        f"{source} {what_is_wrong(source)}. Give a Hugging Face folder (config.json, "
        "model.safetensors and the tokenizer's files) or a fairseq folder (model.pt, dict.txt and "
        "the BPE files vocab.bpe and encoder.json)."
    )


def what_is_wrong(source: pathlib.Path) -> str:
    """Why a path is not the folder of a model, as the end of a sentence that begins with it."""
    if not source.exists():
        return (
            "is not there. A model is a folder on this machine, nothing is downloaded: "
            "`hf download NAME --local-dir FOLDER` does that"
        )
    if not source.is_dir():
        return "is a file, not the folder of a model"
    if (source / MODEL_NAME).exists():
        return f"has {MODEL_NAME}, but no {DICTIONARY_NAME}"
    return f"is no model that is known: it has neither {CONFIG_NAME} nor {MODEL_NAME}"
