"""Prints the most probable words for every <mask> of a sentence.

roberta-jax fill-mask --workdir=runs/small 'He walked out of the <mask> and shut the door.'
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.errors import UserError

SUMMARY = "the most probable words for <mask> in a sentence"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string("workdir", "", "Folder of the run.", flag_values=flags)
    absl_flags.DEFINE_integer(
        "step", -1, "Which checkpoint; -1 is the newest.", lower_bound=-1, flag_values=flags
    )
    absl_flags.DEFINE_integer("top_k", 5, "Candidates per mask.", lower_bound=1, flag_values=flags)


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if not flags.workdir:
        raise UserError("--workdir is missing: the folder of a `roberta-jax pretrain` run.")
    if not arguments:
        raise UserError("Give one or more sentences with <mask>, in quotes.")
    from roberta_jax.inference.fill_mask import MaskFiller

    fill = MaskFiller(flags.workdir, step=flags.step)
    # All of them first: half an answer would scroll away above an error.
    answers = [fill(text, top_k=flags.top_k) for text in arguments]
    for text, masks in zip(arguments, answers, strict=True):
        print(text)
        for candidates in masks:
            for candidate in candidates:
                print(f"  {candidate.probability:6.1%}  {candidate.token!r}")
            print()
    return 0
