"""The compiled functions of a run: its beginning, the step of each phase, the evaluation."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import PretrainConfig
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.optim.schedule import make_schedule
from roberta_jax.parallel.tables import batch_sharding, shardings
from roberta_jax.train.inputs import InputMaker
from roberta_jax.train.plan import Plan
from roberta_jax.train.state import TrainState, init_state
from roberta_jax.train.step import make_step
from roberta_jax.train.update import StepMetrics

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, StepMetrics]]


@dataclasses.dataclass(frozen=True)
class Programs:
    """Jitted over a mesh; call them under `jax.set_mesh(mesh)`.

    Attributes:
      init: makes the state of step 0.
      steps: the step of each phase; the state is donated, and sharded by the tables.
      shapes: the state as ShapeDtypeStructs without sharding.
    """

    init: Callable[[], TrainState]
    steps: tuple[Step, ...]
    shapes: TrainState


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """The step of a phase for arrays of one shape and sharding, and what it took to make it."""

    run: Step
    lowering_seconds: float  # From Python to what the compiler reads.
    compiling_seconds: float  # To what the devices run; less where `kept_programs` has it.


def compile_step(
    step: Callable[..., Any], state: Any, batch: dict[str, jax.Array], *others: jax.Array
) -> CompiledStep:
    """Compiles a step of `Programs`, or one that takes `others` besides; it is not run."""
    began = time.monotonic()
    lowered = step.lower(state, batch, *others)  # type: ignore[attr-defined]  # It is jitted.
    middle = time.monotonic()
    compiled = lowered.compile()

    def run(state: Any, batch: dict[str, jax.Array]) -> Any:
        return compiled(state, batch, *others)

    return CompiledStep(run, middle - began, time.monotonic() - middle)


@contextlib.contextmanager
def kept_programs(folder: Path) -> Iterator[None]:
    """Keeps in `folder` what is compiled meanwhile, so that a run that goes on finds it there.

    A place of the user's own (JAX_COMPILATION_CACHE_DIR) is used instead.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    compilation_cache.reset_cache()  # jax looks once whether there is one.
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


def make_programs(config: PretrainConfig, plan: Plan, maker: InputMaker, mesh: Mesh) -> Programs:
    """Nothing is compiled before it is called."""
    optimizer = make_optimizer(config.optimizer)
    rate = make_schedule(config.schedule, plan.stretches)

    def init() -> TrainState:
        return init_state(config, optimizer)

    shapes = jax.eval_shape(init)
    placed = shardings(shapes, mesh)
    steps = tuple(
        jax.jit(
            make_step(config, maker, optimizer, rate, num_microbatches=phase.num_microbatches),
            in_shardings=(placed, batch_sharding(mesh)),
            out_shardings=(placed, NamedSharding(mesh, P())),
            donate_argnums=0,
        )
        for phase in plan.phases
    )
    return Programs(jax.jit(init, out_shardings=placed), steps, shapes)
