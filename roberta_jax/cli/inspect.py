"""Shows what is in a prepared dataset: counts, lengths, rows as text with their masks.

roberta-jax inspect dataset
roberta-jax inspect dataset --rows=5 --seed=0 --epoch=3
roberta-jax inspect dataset --verify

A row is shown as a run with --seed would see it in its pass number --epoch, with the default
masking: a token to be predicted as [<mask>→ original], a random replacement as [ random→ original],
one that stays as [ original]. --verify reads every record and compares every shard with the
manifest's checksum.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.errors import UserError

SUMMARY = "what is in a prepared dataset, and whether it is intact"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_bool(
        "verify", False, "Read every record and check every shard, instead.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "split", "train", ["train", "validation"], "Which rows are shown.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "rows", 3, "Rows to show, evenly spaced.", lower_bound=0, flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "seed",
        0,
        "Seed of the run whose masks are shown.",
        lower_bound=0,
        upper_bound=2**31 - 1,
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "epoch",
        0,
        "How many passes over the data the run has behind it.",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=flags,
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if len(arguments) != 1:
        raise UserError(
            f"inspect takes one folder that `roberta-jax prepare` wrote, got {arguments or 'none'}."
        )
    from roberta_jax.data import inspection

    (folder,) = arguments
    for line in inspection.verify_dataset(folder) if flags.verify else inspection.describe(folder):
        print(line)
    if flags.verify or not flags.rows:
        return 0
    from roberta_jax.objective.preview import preview

    for line in preview(
        folder, flags.split, num_rows=flags.rows, seed=flags.seed, epoch=flags.epoch
    ):
        print(line)
    return 0
