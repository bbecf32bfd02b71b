"""A workdir → a folder that transformers opens."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.data.output_folder import local_path, new_folder
from roberta_jax.errors import UserError
from roberta_jax.interop.host_mesh import host_mesh
from roberta_jax.interop.huggingface import family_of, is_huggingface_folder, write_huggingface
from roberta_jax.interop.model_card import CARD_NAME, is_our_card, model_card
from roberta_jax.interop.names import has_next_sentence
from roberta_jax.interop.transformers_config import read_config_json
from roberta_jax.train.restore import load_run, load_run_tokenizer
from roberta_jax.train.workdir import CHECKPOINTS_FOLDER, ORIGIN_FILE


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
    check_output(target, overwrite)
    mesh = host_mesh()
    with jax.set_mesh(mesh):
        config, params, chosen = load_run(workdir, mesh, step=step)
    with CheckpointStore(workdir / CHECKPOINTS_FOLDER) as store:
        record = store.read_record(chosen)
    tokenizer = load_run_tokenizer(workdir, config)
    origin = _read_origin(workdir)
    family = origin.get("family", family_of(config.encoder, tokenizer))
    with new_folder(target) as partial:
        write_huggingface(partial, params, config.encoder, tokenizer, family=family, dtype=dtype)
        card = model_card(
            config,
            workdir,
            record,
            name=target.resolve().name,
            step=chosen,
            family=family,
            mask_token=tokenizer.mask_token,
            origin=origin.get("model", ""),
        )
        (partial / CARD_NAME).write_text(card, encoding="utf-8")
        size = sum(path.stat().st_size for path in partial.iterdir())
    if config.encoder.next_sentence_head and not has_next_sentence(family):
        say(f"left out, since transformers has no {family} with one: the next-sentence head")
    say(f"{family}, step {chosen:,}, {dtype}, {size / 1e6:,.1f} MB, written to {target}")


def check_output(target: pathlib.Path, overwrite: bool) -> None:
    """Raises UserError where an export cannot be written.

    What somebody else wrote, the model that was imported for example, is never replaced.
    """
    ours = is_huggingface_folder(target) and is_our_card(target / CARD_NAME)
    if target.exists() and not (overwrite and ours):
        raise UserError(
            f"The output {target} exists"
            + (". " if ours else ", and `roberta-jax export` did not write it. ")
            + "Choose another --output"
            + (", or --overwrite to replace it." if ours else ".")
        )


def origin_family(folder: pathlib.Path) -> str:
    """The architecture that an imported workdir or a Hugging Face folder names; "" for others."""
    if is_huggingface_folder(folder):
        return str(read_config_json(folder)["model_type"])
    return str(_read_origin(folder).get("family", ""))


def _read_origin(workdir: pathlib.Path) -> dict[str, Any]:
    """What `import` noted of the model; nothing of one that was trained here."""
    path = workdir / ORIGIN_FILE
    if not path.exists():
        return {}
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
        return {name: origin[name] for name in ("model", "family")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error!r}). Import the model again, with --overwrite."
        ) from error
