r"""Pretrains an encoder on a prepared dataset, or goes on with it.

roberta-jax pretrain --config=configs/pretrain/small.py --config.data.path=DATASET \
  --workdir=runs/small

With --explain, it tells what the run will do (tokens, FLOPs, parameters, schedule, passes over the
data, checkpoints, estimated times) and stops; no workdir is needed.

Ctrl-C ends after the step in hand (and at most two that the devices have begun; three more with
several processes) and saves; the same command goes on from there. The workdir receives config.json,
checkpoints/, metrics.jsonl (losses in nats), tensorboard/, tokenizer/ and compilation_cache/.

On several hosts, start the same command on each: under Slurm (srun), Open MPI (mpirun) or on a TPU
pod, the processes find each other; elsewhere, --coordinator_address, --num_processes and
--process_id say who they are. All of them need the same --workdir, on a file system that they
share. A signal to any of them stops all after the same step.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_of, define_config, fields_help
from roberta_jax.errors import UserError
from roberta_jax.parallel.launch import (
    HEARTBEAT_TIMEOUT_SECONDS,
    MODES,
    START_TIMEOUT_SECONDS,
    find_launch,
)

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
    define_processes(flags)


def define_processes(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of a run on several hosts."""
    absl_flags.DEFINE_enum(
        "distributed",
        "auto",
        MODES,
        "auto: with the processes that Slurm, Open MPI or a TPU pod started; off: one process.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "coordinator_address", "", "HOST:PORT of process 0, where all meet.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "num_processes", 0, "Processes of the run.", lower_bound=0, flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "process_id", -1, "Number of this process, from 0.", lower_bound=-1, flag_values=flags
    )
    absl_flags.DEFINE_float(
        "start_timeout",
        START_TIMEOUT_SECONDS,
        "Seconds to wait for the other processes at the start.",
        lower_bound=1.0,
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "heartbeat_timeout",
        HEARTBEAT_TIMEOUT_SECONDS,
        "Seconds of silence after which a process counts as gone, and the others end.",
        lower_bound=1.0,
        flag_values=flags,
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
    launch = find_launch(
        flags.distributed,
        address=flags.coordinator_address,
        num_processes=flags.num_processes,
        process_id=flags.process_id,
    )
    from roberta_jax.parallel.processes import started
    from roberta_jax.train.pretrain import pretrain

    with started(
        launch,
        start_timeout_seconds=flags.start_timeout,
        heartbeat_timeout_seconds=flags.heartbeat_timeout,
    ):
        return pretrain(
            config,
            flags.workdir,
            resume=flags.resume,
            init_from=flags.init_from,
            make_probe=_make_probe,
        )


def _make_probe(*arguments: Any) -> Any:
    from roberta_jax.finetune.probe import make_probe  # Slow to import, and seldom needed.

    return make_probe(*arguments)
