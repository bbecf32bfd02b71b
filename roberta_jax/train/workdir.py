"""What lies where in a workdir, and the config that belongs to it."""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roberta_jax import config as config_lib
from roberta_jax.config import PretrainConfig
from roberta_jax.data.manifest import MANIFEST_NAME
from roberta_jax.errors import UserError
from roberta_jax.tasks.finetuned_folder import check_not_finetuned

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
TOKENIZER_FOLDER = "tokenizer"
TENSORBOARD_FOLDER = "tensorboard"
PROGRAMS_FOLDER = "compilation_cache"  # What jax compiled.
ORIGIN_FILE = "origin.json"  # Of an imported model: where it comes from.

# Settings that decide which arrays there are and what they mean; the others may change on resume.
_MODEL_IDENTITY = (
    "data.tokenizer_fingerprint",
    "encoder.vocab_size",
    "encoder.vocab_padding_multiple",
    "encoder.num_layers",
    "encoder.hidden_size",
    "encoder.num_heads",
    "encoder.mlp_size",
    "encoder.max_positions",
    "encoder.position_offset",
    "encoder.pad_id",
    "encoder.num_token_types",
    "encoder.next_sentence_head",
    "encoder.layer_norm_epsilon",
)


def make_workdir(workdir: Path) -> None:
    """Makes the folder.

    Raises:
      UserError: there can be none, or it is something else.
    """
    if (workdir / MANIFEST_NAME).exists():
        raise UserError(f"--workdir={workdir} is a prepared dataset. Choose another folder.")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        raise UserError(
            f"--workdir={workdir} cannot be made: {error.strerror} ({error.filename}). Choose "
            "another folder."
        ) from error


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of `workdir`; the lock ends with this process.

    Raises:
      UserError: another run has it.
    """
    folder = os.open(workdir, os.O_RDONLY)
    try:
        _lock(folder, workdir)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, workdir: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"Another process is running in {workdir} now. Wait for it, stop it, or choose another "
            "--workdir."
        ) from error
    except OSError as error:
        # Some file systems that hosts share know no locks; a run there goes without.
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise


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
        check_not_finetuned(workdir)
        raise UserError(
            f"{workdir} is not a workdir: it has no {CONFIG_FILE}. Give the --workdir of a "
            "`roberta-jax pretrain` run."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} cannot be read: it holds no JSON object.")
    if "model_type" in values:
        raise UserError(
            f"{workdir} is a Hugging Face folder, not a workdir. `roberta-jax import "
            f"--model={workdir} --output=WORKDIR` makes a workdir of it."
        )
    return config_lib.from_dict(PretrainConfig, values)


def check_same_model(
    workdir: Path,
    stored: PretrainConfig,
    wanted: PretrainConfig,
    *,
    except_for: tuple[str, ...] = (),
) -> None:
    """Raises UserError if the weights of `stored` mean nothing to `wanted`; both are resolved.

    The settings `except_for` may differ.
    """
    before, after = config_lib.field_paths(stored), config_lib.field_paths(wanted)
    different = [
        f"{name} is {before[name]} there and {after[name]} in this run"
        for name in _MODEL_IDENTITY
        if before[name] != after[name] and name not in except_for
    ]
    if different:
        raise UserError(
            f"{workdir} holds another model: {'; '.join(different)}. Use the data and the config "
            f"that it was made with, --config={workdir / CONFIG_FILE}, or another folder."
        )


def changed_settings(stored: PretrainConfig, wanted: PretrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: path → (stored, wanted)."""
    before, after = config_lib.field_paths(stored), config_lib.field_paths(wanted)
    changes: dict[str, tuple[Any, Any]] = {}
    if len(stored.phases) != len(wanted.phases):
        one, other = (
            " + ".join(phase.duration for phase in config.phases) or "none"
            for config in (stored, wanted)
        )
        changes["phases"] = (one, other)
    return changes | {
        name: (before[name], after[name])
        for name in after
        if before.get(name) != after[name] and not ("phases" in changes and "phases[" in name)
    }


def replace_text(path: Path, text: str) -> None:
    """Writes a file under a temporary name, then renames it: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
