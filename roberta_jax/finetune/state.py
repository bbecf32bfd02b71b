"""The state of several seeds side by side, and their step as one program."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from roberta_jax.encoder.dropout import row_keys
from roberta_jax.encoder.model import Params
from roberta_jax.encoder.task_model import SENTENCE_TASKS, init_task_params
from roberta_jax.finetune.objective import TaskObjective
from roberta_jax.optim.optimizer import Optimizer
from roberta_jax.optim.schedule import Schedule
from roberta_jax.train.inputs import BatchSums
from roberta_jax.train.state import TrainState, init_key
from roberta_jax.train.update import StepMetrics, make_update

# Numbers of the branches of a seed's key; the branch 0 is that of the initial weights.
_DROPOUT_BRANCH = 7


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FinetuneState:
    """S seeds; every leaf has them as its first axis."""

    run: TrainState
    best: Params  # The weights of the best evaluation so far, by seed.
    left_out: jax.Array  # [S] int32, updates whose loss or gradient was not finite.


def init_finetune_state(
    objective: TaskObjective, optimizer: Optimizer, encoder: Params, seeds: jax.Array
) -> FinetuneState:
    """The state before the first update; call it under jit.

    Args:
      objective: whose head is drawn.
      optimizer: of the run.
      encoder: the branches "embedding" and "layers" of a trained model; {} draws them as well.
        The branch "pooler", if there, is the dense layer that a head on `<s>` begins with, as
        BERT's classifiers do.
      seeds: [S] uint32.
    """
    kept = {name: branch for name, branch in encoder.items() if name != "pooler"}

    def of_seed(seed: jax.Array) -> tuple[TrainState, Params]:
        drawn = init_task_params(objective.encoder, objective.head, init_key(seed))
        params = {**drawn, **kept}
        if "pooler" in encoder and objective.head.task in SENTENCE_TASKS:
            params["head"] = {**drawn["head"], "dense": encoder["pooler"]}
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            optimizer=optimizer.init(params),
            average={},
        )
        # A copy: the two are donated, and so cannot be the same arrays.
        return state, jax.tree.map(jnp.copy, params)

    run, best = jax.vmap(of_seed)(seeds)
    return FinetuneState(run, best, jnp.zeros(seeds.shape, jnp.int32))


def over_seeds(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The function of one seed for the first axis of all arguments.

    One seed alone is no vmap: the program is then the plain one.
    """
    if count > 1:
        return jax.vmap(function)

    def alone(*arguments: Any) -> Any:
        first = jax.tree.map(lambda leaf: leaf[0], arguments)
        return jax.tree.map(lambda leaf: leaf[None], function(*first))

    return alone


# (state, batch with the seeds as its first axis, seeds [S] uint32, peak of the learning rate).
FinetuneStep = Callable[
    [FinetuneState, dict[str, jax.Array], jax.Array, jax.Array], tuple[FinetuneState, StepMetrics]
]


def make_finetune_step(
    objective: TaskObjective, optimizer: Optimizer, rate: Schedule
) -> FinetuneStep:
    """`step(state, batch, seeds, peak) -> (state, StepMetrics)`.

    The learning rate is `peak`, float32, times that of the schedule. As arguments, seeds and peak
    are no part of the program: a sweep over them compiles once.

    An update that is not finite is left out for its seed only, and counted in the state. The
    metrics are those of the other seeds together: sums are added, the norm of the gradient is the
    mean (NaN without any). To the loop, an update is always applied: one seed that diverges does
    not end the others.
    """

    def step(
        state: FinetuneState, batch: dict[str, jax.Array], seeds: jax.Array, peak: jax.Array
    ) -> tuple[FinetuneState, StepMetrics]:
        update = make_update(objective, optimizer, lambda step: peak * rate(step))

        def of_seed(
            run: TrainState, batch: dict[str, jax.Array], seed: jax.Array
        ) -> tuple[TrainState, StepMetrics]:
            keys = row_keys(seed ^ _DROPOUT_BRANCH, run.step, batch["tokens"].shape[0])
            return update(run, batch, keys)

        run, metrics = over_seeds(of_seed, len(seeds))(state.run, batch, seeds)
        applied = metrics.applied > 0

        def total(leaf: jax.Array) -> jax.Array:
            return jnp.where(applied, leaf, 0.0).sum()

        sums: BatchSums = jax.tree.map(total, metrics.sums)
        together = StepMetrics(
            sums,
            gradient_norm=total(metrics.gradient_norm) / applied.sum(),
            learning_rate=metrics.learning_rate[0],
            applied=jnp.ones(()),
        )
        left_out = state.left_out + ~applied
        return dataclasses.replace(state, run=run, left_out=left_out), together

    return step


def adopt_best(state: FinetuneState, better: jax.Array) -> FinetuneState:
    """Keeps the weights of the seeds that are better now than ever before: [S] bool."""

    def choose(now: jax.Array, before: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *(1,) * (now.ndim - 1)), now, before)

    return dataclasses.replace(state, best=jax.tree.map(choose, state.run.params, state.best))
