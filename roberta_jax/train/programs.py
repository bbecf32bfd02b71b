"""The compiled functions of a run: its beginning, the step of each phase, the evaluation."""

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import PretrainConfig
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.optim.schedule import make_schedule
from roberta_jax.parallel.tables import batch_sharding, shardings
from roberta_jax.train.inputs import InputMaker
from roberta_jax.train.plan import Plan
from roberta_jax.train.state import TrainState, init_state
from roberta_jax.train.step import StepMetrics, make_step

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
