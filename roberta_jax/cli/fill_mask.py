"""Prints the most probable words for every <mask> of a sentence.

roberta-jax fill-mask --workdir=runs/small 'He walked out of the <mask> and shut the door.'
roberta-jax fill-mask --model=roberta-base 'He walked out of the <mask> and shut the door.'
"""

import sys
import warnings
from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.model_folder import model_folder
from roberta_jax.errors import TruncationWarning, UserError

SUMMARY = "the most probable words for <mask> in a sentence"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string("workdir", "", "Folder of the run.", flag_values=flags)
    absl_flags.DEFINE_string(
        "model", "", "Instead of --workdir: a Hugging Face or fairseq folder.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "step", -1, "Which checkpoint; -1 is the newest.", lower_bound=-1, flag_values=flags
    )
    absl_flags.DEFINE_integer("top_k", 5, "Candidates per mask.", lower_bound=1, flag_values=flags)
    absl_flags.DEFINE_bool(
        "strict", False, "Refuse a text that is too long, instead of cutting it.", flag_values=flags
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    folder = model_folder(flags)
    if not arguments:
        raise UserError("Give one or more sentences with <mask>, in quotes.")
    import roberta_jax

    model = roberta_jax.load(folder, step=flags.step)
    # All of them first: half an answer would scroll away above an error.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        answers = [
            model.fill_mask(text, top_k=flags.top_k, strict=flags.strict) for text in arguments
        ]
    for warning in caught:
        print(f"roberta-jax: {warning.message}", file=sys.stderr)
    for text, masks in zip(arguments, answers, strict=True):
        print(text)
        for candidates in masks:
            for candidate in candidates:
                print(f"  {candidate.probability:6.1%}  {candidate.token!r}")
            print()
    return 0
