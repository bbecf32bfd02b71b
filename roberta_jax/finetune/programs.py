"""The jitted functions of trials, shared by those that differ in seeds or learning rate only."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import OptimizerConfig, ScheduleConfig
from roberta_jax.encoder.model import Params
from roberta_jax.errors import MachineError
from roberta_jax.finetune.evaluate import Predictor, make_predictor
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.finetune.rows import BatchMaker
from roberta_jax.finetune.state import (
    FinetuneState,
    FinetuneStep,
    adopt_best,
    init_finetune_state,
    make_finetune_step,
)
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.optim.schedule import make_schedule
from roberta_jax.train.plan import Plan


@dataclasses.dataclass(frozen=True)
class TrialPrograms:
    """Of so many seeds and steps; every leaf is whole on every device.

    Attributes:
      init: (branches of the encoder, seeds [S] uint32) → the state before the first update.
      step: see `state.make_finetune_step`; the state is donated.
      adopt: see `state.adopt_best`; the state is donated.
      predict: what the seeds say of rows.
      target: the state as ShapeDtypeStructs with shardings.
    """

    init: Callable[[Params, jax.Array], FinetuneState]
    step: FinetuneStep
    adopt: Callable[[FinetuneState, jax.Array], FinetuneState]
    predict: Predictor
    target: FinetuneState


class SharedPrograms:
    """Makes the programs of a task's trials, and keeps them.

    Seeds and the peak of the learning rate are arguments, so a sweep over them compiles once.
    """

    def __init__(
        self,
        objective: TaskObjective,
        maker: BatchMaker,
        encoder: Params,
        *,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
    ):
        """Nothing is compiled before it is called.

        Args:
          objective: what is learned.
          maker: of the batches.
          encoder: the branches with which the weights begin; for their shapes.
          optimizer: whose peak learning rate is not looked at.
          schedule: of the learning rate.
        """
        self._objective, self._maker, self._encoder = objective, maker, encoder
        self._optimizer, self._schedule = make_optimizer(optimizer), schedule
        self._predictors: dict[int, Predictor] = {}
        self._programs: dict[tuple[int, Plan], TrialPrograms] = {}

    def of(self, num_seeds: int, plan: Plan) -> TrialPrograms:
        """Those of a plan whose schedule has the peak 1."""
        key = (num_seeds, plan)
        if key not in self._programs:
            self._programs[key] = self._make(num_seeds, plan)
        return self._programs[key]

    def _make(self, num_seeds: int, plan: Plan) -> TrialPrograms:
        whole = NamedSharding(self._maker.mesh, P())

        def init(encoder: Params, seeds: jax.Array) -> FinetuneState:
            return init_finetune_state(self._objective, self._optimizer, encoder, seeds)

        rate = make_schedule(self._schedule, plan.stretches)
        step = make_finetune_step(self._objective, self._optimizer, rate)
        seeds = jax.ShapeDtypeStruct((num_seeds,), jnp.uint32)
        shapes = jax.eval_shape(init, self._encoder, seeds)
        if num_seeds not in self._predictors:
            self._predictors[num_seeds] = make_predictor(self._objective, self._maker, num_seeds)
        return TrialPrograms(
            init=jax.jit(init, out_shardings=whole),
            step=jax.jit(step, out_shardings=whole, donate_argnums=0),
            adopt=jax.jit(adopt_best, out_shardings=whole, donate_argnums=0),
            predict=self._predictors[num_seeds],
            target=jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), shapes
            ),
        )


@contextlib.contextmanager
def explained_memory(num_seeds: int, batch_size: int) -> Iterator[None]:
    """A `with` block in which memory of a device that runs out becomes one paragraph."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MachineError(
            f"The memory of a device ran out: {' '.join(str(error).split())[:200]}. {num_seeds} "
            f"seeds with {batch_size} examples each are trained at once: set fit.seeds_at_once=1, "
            "lower data.max_length or fit.batch_size, or set model.rematerialization=full."
        ) from error
