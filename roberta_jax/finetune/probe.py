"""What the encoder of a pretraining run knows of a task, while it is trained."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import DataConfig, EncoderConfig, PretrainConfig, ProbeConfig, TrainConfig
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.encoder.model import Params, bind
from roberta_jax.errors import UserError
from roberta_jax.finetune.evaluate import evaluate_seeds, make_predictor
from roberta_jax.finetune.model_folder import RowLimits
from roberta_jax.finetune.objective import TaskObjective, head_of
from roberta_jax.finetune.rows import BatchMaker, SplitRows, share_of
from roberta_jax.finetune.source import encoder_branches
from roberta_jax.finetune.state import init_finetune_state, make_finetune_step
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.optim.schedule import make_schedule
from roberta_jax.parallel.mesh import check_batch
from roberta_jax.tasks.batches import evaluation_batches, row_lengths
from roberta_jax.tasks.catalogue import find_task
from roberta_jax.tasks.examples import TRAIN, Example
from roberta_jax.tasks.features import TaskRows, make_rows
from roberta_jax.tasks.linear_probe import check_classes, check_kind, linear_scores
from roberta_jax.tasks.load import load_splits
from roberta_jax.tasks.task import Task
from roberta_jax.train.plan import make_plan

_SEED = 0  # The probe's own: runs of several seeds are compared by it.
_BATCH_SIZE = 64  # Rows that are read at once for features.
_DROPOUT_RATE = 0.1

# Weights of the run → name of a score → fraction, on the dev split.
Probe = Callable[[Params], dict[str, float]]


def make_probe(
    config: ProbeConfig, encoder: EncoderConfig, tokenizer: Tokenizer, mesh: Mesh
) -> Probe:
    """Reads the task's files; call the probe under the mesh.

    Args:
      config: which task, how many examples.
      encoder: of the run, resolved.
      tokenizer: of the run.
      mesh: of the run.

    Raises:
      UserError: the task or its files cannot be used, or the run has several processes.
    """
    if jax.process_count() > 1:
        raise UserError(
            f"probe.every_steps is {config.every_steps}, and this run has {jax.process_count()} "
            "processes; probes are for one. Set probe.every_steps=0, and fine-tune a checkpoint."
        )
    task = find_task(config.task)
    if config.kind == "linear":
        check_kind(task)
    splits = load_splits(task, config.path).splits
    dev_name = task.dev[0]
    train = _some(splits[TRAIN], config.train_examples)
    if config.kind == "linear":
        check_classes(task, train)
    dev = _some(splits[dev_name], config.dev_examples)
    limits = RowLimits.of_encoder(encoder)

    def rows(examples: Sequence[Example]) -> TaskRows:
        return make_rows(task, examples, tokenizer, **dataclasses.asdict(limits))

    maker = BatchMaker(
        mesh,
        pad_id=encoder.pad_id,
        token_types=encoder.num_token_types > 1,
        max_length=limits.max_length,
    )
    both = (SplitRows(TRAIN, train, rows(train)), SplitRows(dev_name, dev, rows(dev)))
    if config.kind == "linear":
        return _linear(task, encoder, maker, both)
    return _finetuned(task, config, encoder, maker, both)


def _some(examples: Sequence[Example], count: int) -> Sequence[Example]:
    if len(examples) <= count:
        return examples
    return share_of(examples, count / len(examples), seed=_SEED)


def _linear(
    task: Task, encoder: EncoderConfig, maker: BatchMaker, splits: tuple[SplitRows, SplitRows]
) -> Probe:
    @jax.jit
    def features(params: Params, batch: dict[str, jax.Array]) -> jax.Array:
        """The mean over the states of a row's tokens: [B, D] float32."""
        tokens = batch["tokens"]
        states = bind(encoder, params).states(tokens, token_types=batch.get("token_types"))
        real = (tokens != encoder.pad_id)[..., None]
        sums = jnp.where(real, states.astype(jnp.float32), 0.0).sum(axis=1)
        whole = NamedSharding(maker.mesh, P())
        return jax.lax.with_sharding_constraint(sums / real.sum(axis=1), whole)

    def of_split(params: Params, split: SplitRows) -> tuple[np.ndarray, Sequence[Example]]:
        found = np.zeros((len(split.rows), encoder.hidden_size), np.float32)
        batch_size = _BATCH_SIZE * maker.mesh.devices.size
        for numbers, length, _ in evaluation_batches(
            row_lengths(split.rows), size_at=lambda length: batch_size, max_length=maker.max_length
        ):
            batch = maker.placed(maker.assemble(split.rows, numbers, length, batch_size))
            found[numbers] = np.asarray(features(params, batch))[: len(numbers)]
        return found, split.examples

    def probe(params: Params) -> dict[str, float]:
        train, dev = (of_split(params, split) for split in splits)
        return linear_scores(task, train, dev)

    return probe


def _finetuned(
    task: Task,
    config: ProbeConfig,
    encoder: EncoderConfig,
    maker: BatchMaker,
    splits: tuple[SplitRows, SplitRows],
) -> Probe:
    check_batch(config.batch_size, 1, maker.mesh)
    train, dev = splits
    trained = dataclasses.replace(
        encoder,
        embedding_dropout_rate=_DROPOUT_RATE,
        dropout_rate=_DROPOUT_RATE,
        attention_dropout_rate=_DROPOUT_RATE,
        attention_implementation="auto",
        next_sentence_head=False,
    )
    objective = TaskObjective(trained, head_of(task), task.kind, train.rows.group_size)
    steps = max(1, round(config.epochs * -(-len(train.rows) // config.batch_size)))
    # The optimizer and the schedule are those of `finetune`.
    run = PretrainConfig(
        data=DataConfig(path=TRAIN, sequence_length=maker.max_length),
        train=TrainConfig(
            duration=f"{steps} steps", batch_size=config.batch_size, num_microbatches=1
        ),
    )
    run.optimizer.peak_learning_rate, run.optimizer.weight_decay = config.learning_rate, 0.1
    run.schedule.warmup = "6%"
    plan = make_plan(run, lambda path: len(train.rows))
    optimizer = make_optimizer(run.optimizer)
    rate = make_schedule(run.schedule, plan.stretches)
    whole = NamedSharding(maker.mesh, P())
    # The schedule has the peak.
    seeds, peak = jnp.array([_SEED], jnp.uint32), jnp.float32(1)
    begin = jax.jit(
        lambda params: init_finetune_state(objective, optimizer, params, seeds),
        out_shardings=whole,
    )
    step = jax.jit(
        make_finetune_step(objective, optimizer, rate),
        out_shardings=whole,
        donate_argnums=0,
    )
    predict = make_predictor(objective, maker, 1)

    def probe(params: Params) -> dict[str, float]:
        state = begin(encoder_branches(params))
        batches = maker.training(train.rows, [_SEED], batch_size=config.batch_size, first_step=0)
        for _ in range(steps):
            state, _ = step(state, next(batches), seeds, peak)
        judged = dataclasses.replace(task, dev=task.dev[:1])
        evaluation, _ = evaluate_seeds(judged, [dev], state.run.params, predict)
        return evaluation.scores[0][dev.name]

    return probe
