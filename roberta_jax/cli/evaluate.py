"""Masked-LM loss (nats), perplexity and accuracy of a checkpoint, with fixed masks.

roberta-jax evaluate --workdir=runs/small
roberta-jax evaluate --workdir=runs/small --step=5000 --data=OTHER --split=train --max_rows=1000
"""

import math
from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.model_folder import model_folder
from roberta_jax.errors import UserError

SUMMARY = "loss, perplexity and accuracy of a checkpoint on held-out rows"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string("workdir", "", "Folder of the run.", flag_values=flags)
    absl_flags.DEFINE_string(
        "model", "", "Instead of --workdir: a Hugging Face or fairseq folder.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "step", -1, "Which checkpoint; -1 is the newest.", lower_bound=-1, flag_values=flags
    )
    absl_flags.DEFINE_string(
        "data", "", "A prepared dataset; the run's own if not given.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "split", "validation", ["validation", "train"], "Which rows.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "max_rows",
        0,
        "Rows to use, evenly spaced; 0 for all.",
        lower_bound=0,
        flag_values=flags,
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"evaluate takes no positional arguments, got {arguments}.")
    folder = model_folder(flags)
    from roberta_jax.inference.evaluate import evaluate_model

    step, evaluation = evaluate_model(
        folder, step=flags.step, data=flags.data, split=flags.split, max_rows=flags.max_rows
    )
    pairs = ""
    if not math.isnan(evaluation.next_sentence_accuracy):
        pairs = f" | next sentence {evaluation.next_sentence_accuracy:.2%}"
    print(
        f"step {step:,} | {flags.split} loss {evaluation.loss_nats:.4f} nats | perplexity "
        f"{evaluation.perplexity:,.3f} | accuracy {evaluation.masked_accuracy:.2%} | "
        f"{evaluation.num_predictions:,} predictions{pairs}"
    )
    return 0
