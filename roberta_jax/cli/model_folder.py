"""--workdir or --model: where the model of a verb lies."""

from typing import Any

from roberta_jax.errors import UserError


def model_folder(flags: Any) -> str:
    """The one that was given; UserError for none and for both."""
    if not flags.workdir and not flags.model:
        raise UserError(
            "--workdir is missing: the folder of a `roberta-jax pretrain` run; or give a Hugging "
            "Face folder by --model."
        )
    if flags.workdir and flags.model:
        raise UserError("Give --workdir or --model, not both: each names the model to load.")
    return flags.workdir or flags.model
