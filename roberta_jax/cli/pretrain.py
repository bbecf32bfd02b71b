r"""Pretrains an encoder on a prepared dataset, or goes on with it.

roberta-jax pretrain --config=configs/pretrain/small.py --config.data.path=DATASET \
  --workdir=runs/small

With --explain, it tells what the run will do (tokens, FLOPs, parameters, schedule, passes over the
data, checkpoints, estimated times) and stops; no workdir is needed.

Ctrl-C ends after the step in hand (and at most two that the devices have begun) and saves; the same
command goes on from there. The workdir receives config.json, checkpoints/, metrics.jsonl (losses in
nats), tensorboard/ and tokenizer/.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_of, define_config, fields_help
from roberta_jax.errors import UserError

SUMMARY = "train an encoder on a prepared dataset; goes on where it stopped"
TAKES_CONFIG = True

extra_help = fields_help


def define_flags(flags: absl_flags.FlagValues, argv: list[str]) -> None:
    """Defines the flags of this verb in `flags`."""
    define_config(flags, argv)
    absl_flags.DEFINE_string("workdir", "", "Folder that receives the run.", flag_values=flags)
    absl_flags.DEFINE_string(
        "resume",
        "auto",
        "auto: from the newest checkpoint if any; never; must; or a step.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "init_from", "", "Workdir whose weights a new run begins with.", flag_values=flags
    )
    absl_flags.DEFINE_bool(
        "explain", False, "Tell what the run will do, and stop.", flag_values=flags
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"pretrain takes no positional arguments, got {arguments}.")
    if not flags.workdir and not flags.explain:
        raise UserError("--workdir is missing: the folder that receives checkpoints and metrics.")
    config = config_of(flags)
    config.validate()
    if flags.explain:
        from roberta_jax.train.explain import explain

        for line in explain(config):
            print(line)
        return 0
    from roberta_jax.train.pretrain import pretrain

    return pretrain(config, flags.workdir, resume=flags.resume, init_from=flags.init_from)
