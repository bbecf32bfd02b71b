"""Goes the whole path on text that is on the machine anyway, in a few minutes on a laptop.

roberta-jax demo --workdir=demo

Trains a tokenizer, prepares rows, pretrains a small RoBERTa, reads its predictions for masked words
and draws the run. Ctrl-C saves; the same command goes on from there.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.errors import UserError

SUMMARY = "the whole path on embedded text: tokenizer, prepare, pretrain, fill-mask, report"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string(
        "workdir", "demo", "Folder that receives everything.", flag_values=flags
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"demo takes no positional arguments, got {arguments}.")
    from roberta_jax.demo import run_demo

    return run_demo(flags.workdir)
