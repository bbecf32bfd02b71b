"""A config so small that its step compiles in seconds, and results that were made up."""

from roberta_jax import config as c
from roberta_jax.dryrun.result import Compiled, PhaseResult, Result, State
from roberta_jax.dryrun.traffic import Collective

GIB = 2**30


def tiny_config(*, batch_size=16, num_microbatches=1, mesh=None, policy="none", **encoder):
    return c.PretrainConfig(
        data=c.DataConfig(sequence_length=16),
        encoder=c.EncoderConfig(
            **{
                "vocab_size": 200,
                "num_layers": 2,
                "hidden_size": 32,
                "num_heads": 2,
                "mlp_size": 64,
                "max_positions": 16,
                "rematerialization": policy,
                "compute_dtype": "float32",
                **encoder,
            }
        ),
        optimizer=c.OptimizerConfig(peak_learning_rate=1e-3),
        schedule=c.ScheduleConfig(warmup="10 steps"),
        mesh=c.MeshConfig(**(mesh or {})),
        train=c.TrainConfig(
            duration="100 steps", batch_size=batch_size, num_microbatches=num_microbatches
        ),
    )


def phase_result(*, peak=0.0, needed=0.0, num_microbatches=1, **others):
    """A phase whose state is 2 GiB and whose peak, or need, is so many GiB."""
    compiled = None
    if peak:
        compiled = Compiled(
            peak_bytes=round(peak * GIB),
            temporary_bytes=round((peak - 2) * GIB),
            memory_traffic_bytes=819 * 10**9,  # A second of a v5e.
            collectives={"all-reduce": Collective(7, 10**9, 2 * 10**9)},  # 10 ms of a v5e.
        )
    values = {
        "num_steps": 86_400,
        "batch_size": 1024,
        "sequence_length": 512,
        "num_microbatches": num_microbatches,
        "microbatches_field": "train.num_microbatches",
        "model_flops": 16 * 197e12,  # A second of 16 v5e.
        "computed_flops": 2 * 16 * 197e12,
        "state": State(parameters=GIB, optimizer=GIB, average=0, gradient=GIB, batch=0),
        "compiled": compiled,
        "needed_bytes": round(needed * GIB),
        "state_is_too_large": False,
        "seconds": 61.0,
    }
    return PhaseResult(**(values | others))


def result(*phases, mesh=(16, 1, 1), policy="full"):
    return Result(
        mesh=dict(zip(("data", "fsdp", "tensor"), mesh, strict=True)),
        num_params=2**28,
        rematerialization=policy,
        assumed_vocabulary=True,
        phases=list(phases),
    )
