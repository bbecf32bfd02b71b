"""What lies where in a workdir, and the config that belongs to it."""

import json
import os
from pathlib import Path
from typing import Any

from roberta_jax import config as config_lib
from roberta_jax.config import EncoderConfig, PretrainConfig
from roberta_jax.errors import UserError

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
TOKENIZER_FOLDER = "tokenizer"
TENSORBOARD_FOLDER = "tensorboard"

# Encoder settings that decide which arrays there are and what they mean; the others may change on
# resume.
_ENCODER_IDENTITY = (
    "vocab_size",
    "vocab_padding_multiple",
    "num_layers",
    "hidden_size",
    "num_heads",
    "mlp_size",
    "max_positions",
    "layer_norm_epsilon",
)


def write_config(workdir: Path, config: PretrainConfig) -> None:
    """Writes the resolved config, whole or not at all."""
    replace_text(workdir / CONFIG_FILE, config_lib.dumps(config))


def read_config(workdir: Path) -> PretrainConfig:
    """The config that a run in `workdir` was started with.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = workdir / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{workdir} is not a workdir: it has no {CONFIG_FILE}. Give the --workdir of a "
            "`roberta-jax pretrain` run."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    return config_lib.from_dict(PretrainConfig, values)


def check_same_model(workdir: Path, stored: EncoderConfig, wanted: EncoderConfig) -> None:
    """Raises UserError if the arrays of `stored` are not those that `wanted` needs."""
    different = [
        f"encoder.{name} is {getattr(stored, name)} there and {getattr(wanted, name)} in this "
        "config"
        for name in _ENCODER_IDENTITY
        if getattr(stored, name) != getattr(wanted, name)
    ]
    if different:
        raise UserError(
            f"{workdir} holds another model: {'; '.join(different)}. Use the config that it was "
            "made with, or another --workdir."
        )


def changed_settings(stored: PretrainConfig, wanted: PretrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: path → (stored, wanted)."""
    before, after = config_lib.field_paths(stored), config_lib.field_paths(wanted)
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}


def replace_text(path: Path, text: str) -> None:
    """Writes a file under a temporary name, then renames it: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
