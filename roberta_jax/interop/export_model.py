"""A workdir → a folder that transformers opens."""

import json
import pathlib
from collections.abc import Callable

import jax

from roberta_jax.config import MeshConfig
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.errors import UserError
from roberta_jax.interop.huggingface import family_of, is_huggingface_folder, write_huggingface
from roberta_jax.interop.model_card import model_card
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train.restore import load_run, load_run_tokenizer
from roberta_jax.train.workdir import ORIGIN_FILE


def export_model(
    workdir: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    step: int = -1,
    dtype: str = "float32",
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes config.json, model.safetensors, the tokenizer's files and a model card.

    Args:
      workdir: of a run on any mesh, or of an imported model.
      output: the folder to write.
      step: which checkpoint; -1 for the newest.
      dtype: "float32" or "bfloat16", of the stored weights.
      overwrite: replace an earlier export.
      say: takes the summary, line by line.

    Raises:
      UserError: there is no such checkpoint, or something else is at `output`; nothing was written.
    """
    workdir, target = local_path(workdir), local_path(output)
    if target.exists() and not (overwrite and is_huggingface_folder(target)):
        raise UserError(
            f"The output {target} exists. Choose another --output"
            + (", or --overwrite to replace it." if is_huggingface_folder(target) else ".")
        )
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        config, params, chosen = load_run(workdir, mesh, step=step)
    tokenizer = load_run_tokenizer(workdir, config)
    family = family_of(config.encoder, tokenizer)
    with new_folder(target) as partial:
        write_huggingface(partial, params, config.encoder, tokenizer, dtype=dtype)
        _limit_length(partial / "tokenizer_config.json", config.encoder.max_positions)
        card = model_card(
            config,
            workdir,
            name=target.resolve().name,
            step=chosen,
            family=family,
            mask_token=tokenizer.mask_token,
            origin=_origin(workdir),
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
        size = sum(path.stat().st_size for path in partial.iterdir())
    say(f"{family}, step {chosen:,}, {dtype}, {size / 1e6:,.1f} MB, written to {target}")


def _origin(workdir: pathlib.Path) -> str:
    path = workdir / ORIGIN_FILE
    return json.loads(path.read_text(encoding="utf-8"))["model"] if path.exists() else ""


def _limit_length(path: pathlib.Path, max_positions: int) -> None:
    """Tells transformers how many tokens the model takes."""
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings["model_max_length"] = max_positions
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
