"""What a run will do, worked out before anything is compiled."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from roberta_jax.config import Duration, PretrainConfig
from roberta_jax.encoder.model import abstract_params, count_params
from roberta_jax.errors import UserError
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.optim.schedule import Stretch, make_schedule
from roberta_jax.train.console import duration
from roberta_jax.train.hardware import PEAK_FLOPS, step_flops
from roberta_jax.train.plan import Plan, make_plan
from roberta_jax.train.run_data import RunData, check_padding, open_data, resolve
from roberta_jax.train.state import init_state

# RoBERTa's vocabulary, where no dataset says which.
ASSUMED_VOCAB_SIZE = 50_265
# Share of the peak that a run is taken to reach on the machines of the table.
ASSUMED_PEAK_SHARE = 0.4
MACHINES = (
    ("1 H200 GPU", "NVIDIA H200", 1),
    ("8 H100 GPUs", "NVIDIA H100 80GB HBM3", 8),
    ("64 TPU v4 chips", "TPU v4", 64),
    ("256 TPU v5e chips", "TPU v5e", 256),
)


def explain(config: PretrainConfig) -> Iterator[str]:
    """Lines that tell what a config does; no device is asked, nothing is written.

    Without `data.path`, RoBERTa's vocabulary is assumed, and passes over the data are not told.

    Raises:
      UserError: what `pretrain` would raise for this config and these data.
    """
    config.validate()
    data = open_data(config) if all(config.paths()) else None
    if data is None:
        vocab_size = config.encoder.vocab_size or ASSUMED_VOCAB_SIZE
        encoder = dataclasses.replace(config.encoder, vocab_size=vocab_size)
        config = dataclasses.replace(config, encoder=encoder)
        _refuse_epochs(config)
        plan = make_plan(config, lambda path: 1)
    else:
        config = resolve(config, data.main)
        check_padding(config, data.tokenizer())
        plan = make_plan(config, data.num_rows)
    yield from _model_lines(config, assumed_vocabulary=data is None)
    yield from _phase_lines(config, plan, data)
    yield from _objective_lines(config)
    yield from _optimizer_lines(config, plan)
    yield from _checkpoint_lines(config, plan)
    yield from _time_lines(config, plan)


def _refuse_epochs(config: PretrainConfig) -> None:
    """Raises UserError where the length of the run depends on the rows of a dataset."""
    schedule = config.schedule
    durations = {"train.duration": config.train.duration, "schedule.warmup": schedule.warmup}
    if schedule.kind == "warmup_stable_decay":
        durations["schedule.decay"] = schedule.decay
    for number, phase in enumerate(config.phases):
        durations[f"phases[{number}].duration"] = phase.duration
        durations[f"phases[{number}].warmup"] = phase.warmup
    for name, text in durations.items():
        if text and Duration.parse(text, name).unit == "epochs":
            raise UserError(
                f"config.{name} is {text!r}, and without a dataset it is not known how many steps "
                "these are. Name it: --config.data.path=DATASET."
            )


def _model_lines(config: PretrainConfig, *, assumed_vocabulary: bool) -> Iterator[str]:
    encoder = config.encoder
    assumed = " (assumed: no data.path)" if assumed_vocabulary else ""
    head = ", next-sentence head" if encoder.next_sentence_head else ""
    yield (
        f"model       {encoder.num_layers} layers x {encoder.hidden_size}, {encoder.num_heads} "
        f"heads, MLP {encoder.mlp_size:,}, vocabulary {encoder.vocab_size:,}{assumed}{head}: "
        f"{count_params(encoder):,} parameters"
    )


def _phase_lines(config: PretrainConfig, plan: Plan, data: RunData | None) -> Iterator[str]:
    for phase in plan.phases:
        name = f"phase {phase.number + 1}" if len(plan.phases) > 1 else "run"
        passes = f", {phase.epochs:,.2f} passes over {phase.path}" if data else ""
        chosen = phase.num_microbatches
        parts = f" in {chosen:,} microbatches" if chosen else ""
        yield (
            f"{name:<12}steps {phase.first_step + 1:,} to {phase.end_step:,}: "
            f"{phase.batch_size:,} rows of {phase.sequence_length:,} tokens{parts}, "
            f"{phase.num_steps * phase.tokens_per_step:,} tokens{passes}, "
            f"{step_flops(config, phase):.3g} FLOPs a step"
        )
    if not any(phase.num_microbatches for phase in plan.phases):
        yield "            microbatches: as few as fit the devices, chosen when the run begins"
    yield (
        f"in all      {plan.num_steps:,} steps, {plan.num_rows:,} rows, "
        f"{plan.num_tokens:,} tokens, {_total_flops(config, plan):.3g} FLOPs"
    )


def _objective_lines(config: PretrainConfig) -> Iterator[str]:
    masking, slots = config.masking, []
    for length in sorted(set(config.sequence_lengths())):
        slots.append(f"{masking.max_masked(length)} of {length}")
    kind = masking.kind
    if kind == "static":
        kind = f"static, {masking.num_static_masks} masks a row"
    words = ", whole words" if masking.whole_words else ""
    special = ", special tokens too" if masking.mask_special_tokens else ""
    rest = 1 - masking.mask_share - masking.random_share
    yield (
        f"masking     {kind}: {100 * masking.rate:g}% of the tokens{words}{special}; "
        f"{100 * masking.mask_share:g}% <mask>, {100 * masking.random_share:g}% random, "
        f"{100 * rest:g}% as they are; slots {', '.join(slots)}"
    )
    terms = ["masked tokens"]
    if config.encoder.next_sentence_head:
        terms.append("next sentence")
    if config.objective.z_loss_weight:
        terms.append(f"{config.objective.z_loss_weight:g} x z-loss")
    yield f"loss        {' + '.join(terms)}"


def _optimizer_lines(config: PretrainConfig, plan: Plan) -> Iterator[str]:
    optimizer, schedule = config.optimizer, config.schedule
    decayed = "on all" if optimizer.decay_table == "fairseq" else "not on biases and LayerNorm"
    extras = "" if optimizer.bias_correction else ", no bias correction"
    if np.isfinite(optimizer.clip_global_norm):
        extras += f", gradient clipped to norm {optimizer.clip_global_norm:g}"
    if optimizer.moments_dtype != "float32":
        extras += f", moments in {optimizer.moments_dtype}"
    if optimizer.average_decay:
        extras += f", average of the weights with decay {optimizer.average_decay:g}"
    yield (
        f"optimizer   {optimizer.kind}: betas {optimizer.beta1:g} and {optimizer.beta2:g}, epsilon "
        f"{optimizer.epsilon:g}, weight decay {optimizer.weight_decay:g} {decayed}{extras}"
    )
    rate = make_schedule(schedule, plan.stretches)
    for stretch in plan.stretches:
        points = ", ".join(f"{float(rate(step)):.3g} at {step + 1:,}" for step in _points(stretch))
        yield (
            f"schedule    {schedule.kind}: peak {stretch.peak_learning_rate:g} after "
            f"{stretch.warmup_steps:,} of {stretch.end_step - stretch.first_step:,} steps; rate of "
            f"step: {points}"
        )


def _points(stretch: Stretch) -> list[np.int32]:
    """Some steps of a schedule: the first, the peak, the middle, the last."""
    peak = stretch.first_step + max(stretch.warmup_steps - 1, 0)
    last = stretch.end_step - 1
    chosen = sorted({stretch.first_step, peak, (peak + last) // 2, last})
    return [np.int32(step) for step in chosen]


def _checkpoint_lines(config: PretrainConfig, plan: Plan) -> Iterator[str]:
    optimizer = make_optimizer(config.optimizer)
    shapes = jax.eval_shape(lambda: init_state(config, optimizer))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    weights = sum(leaf.size * 4 for leaf in jax.tree.leaves(abstract_params(config.encoder)))
    policy = config.checkpoint
    written = -(-plan.num_steps // policy.save_every_steps)
    rules, most = [f"the last {policy.keep_last}"], min(policy.keep_last, written)
    if policy.keep_every_steps:
        rules.append(f"every {policy.keep_every_steps:,} steps")
        most += plan.num_steps // policy.keep_every_steps
    if policy.keep_best:
        rules.append(f"the best {policy.keep_best}")
        most += policy.keep_best
    most = min(most, written)
    yield (
        f"checkpoints {written:,}, every {policy.save_every_steps:,} steps, {_bytes(size)} each "
        f"({_bytes(weights)} of weights); {', '.join(rules)} stay: at most {most:,}, "
        f"{_bytes(most * size)}"
    )


def _time_lines(config: PretrainConfig, plan: Plan) -> Iterator[str]:
    total = _total_flops(config, plan)
    for name, kind, count in MACHINES:
        seconds = total / (PEAK_FLOPS[kind] * count * ASSUMED_PEAK_SHARE)
        yield (
            f"time        {duration(seconds)} on {name} at {ASSUMED_PEAK_SHARE:.0%} of their peak "
            "(assumed)"
        )


def _total_flops(config: PretrainConfig, plan: Plan) -> float:
    return sum(step_flops(config, phase) * phase.num_steps for phase in plan.phases)


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
