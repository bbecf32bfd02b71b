"""Steps, log lines, evaluations and checkpoints, until the end or an interrupt."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.config import PretrainConfig
from roberta_jax.errors import MachineError
from roberta_jax.train.console import RunConsole, duration, train_line
from roberta_jax.train.evaluate import Evaluation, perplexity
from roberta_jax.train.hardware import peak_share
from roberta_jax.train.interrupt import InterruptWish
from roberta_jax.train.metrics import MetricsLog
from roberta_jax.train.state import TrainState
from roberta_jax.train.step import StepMetrics

# Steps that the devices may have before them. More would not make them faster, and an interrupt
# waits for all of them.
MOST_STEPS_IN_FLIGHT = 2


@dataclasses.dataclass
class Window:
    """Sums since the last log line. It is part of a checkpoint, so a resumed run logs the same."""

    loss: float = 0.0  # Nats, summed over predictions.
    correct: float = 0.0
    count: float = 0.0

    def add(self, metrics: StepMetrics) -> None:
        """Adds the sums of one step (already on the host)."""
        self.loss += float(metrics.sums.loss)
        self.correct += float(metrics.sums.correct)
        self.count += float(metrics.sums.count)


@dataclasses.dataclass
class Progress:
    """Where a run stands, on the host."""

    step: int  # Updates applied.
    examples_seen: int  # Rows consumed: the position in the data.
    window: Window


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What the loop calls; built by `pretrain`."""

    step: Callable[[TrainState, dict[str, Any]], tuple[TrainState, StepMetrics]]
    batches: Iterator[dict[str, Any]]
    evaluate: Callable[[Any], Evaluation] | None  # Of the parameters; None: no validation rows.
    record: Callable[[Progress], dict[str, Any]]  # What is stored beside a checkpoint.


def run_loop(
    config: PretrainConfig,
    state: TrainState,
    progress: Progress,
    hooks: Hooks,
    *,
    store: CheckpointStore,
    log: MetricsLog,
    console: RunConsole,
) -> bool:
    """Trains until `train.num_steps`.

    Args:
      config: the run.
      state: where to begin; its buffers are donated.
      progress: the same on the host; updated in place.
      hooks: the step, the data, the evaluation.
      store: where checkpoints go.
      log: the record.
      console: what the user sees.

    Returns:
      True when the run is complete, False after an interrupt; the state is saved either way.
    """
    num_steps, train = config.train.num_steps, config.train
    pending: list[StepMetrics] = []  # On the device: not waited for until they are logged.
    started, first_step = time.monotonic(), progress.step
    window_started, window_steps = started, 0
    saved_step = progress.step if progress.step in store.steps() else None
    compiled = False
    newest: StepMetrics | None = None  # On the host.

    def note(event: str, message: str) -> None:
        log.note(event, message, step=progress.step, examples_seen=progress.examples_seen)

    def drain() -> None:
        """Waits for the steps in flight, and adds them to the window."""
        nonlocal newest
        for metrics in jax.device_get(pending):
            progress.window.add(metrics)
            newest = metrics
        pending.clear()

    def check_finite() -> None:
        if not _is_finite(newest, progress.window):
            error = _diverged(progress.step)
            note("diverged", str(error))
            raise error

    with InterruptWish() as wish:
        while progress.step < num_steps and not wish.requested:
            state, metrics = hooks.step(state, next(hooks.batches))
            pending.append(metrics)
            jax.block_until_ready(pending[:-MOST_STEPS_IN_FLIGHT][-1:])
            progress.step += 1
            progress.examples_seen += train.batch_size
            window_steps += 1
            step = progress.step
            if not compiled:  # Its time is compilation; the rate is counted without it.
                jax.block_until_ready(metrics)
                compiled = True
                console.say(f"compiled the step in {duration(time.monotonic() - started)}")
                started = window_started = time.monotonic()
                first_step, window_steps = step, 0

            last = step == num_steps
            if step % train.log_every_steps == 0 or last:
                drain()
                assert newest is not None
                store.check()
                now = time.monotonic()
                entry = _train_entry(config, progress.window, newest)
                if window_steps:
                    seconds_per_step = (now - window_started) / window_steps
                    entry |= _speed(config, seconds_per_step)
                    left = (now - started) / max(step - first_step, 1) * (num_steps - step)
                    line = train_line({"step": step, **entry}, num_steps, left)
                    console.progress(line, lasting=last)
                entry["seconds"] = round(now - started, 3)
                log.write("train", step=step, examples_seen=progress.examples_seen, **entry)
                check_finite()
                progress.window = Window()
                window_started, window_steps = time.monotonic(), 0

            evaluation = None
            every = train.evaluate_every_steps
            if hooks.evaluate is not None and (last or (every and step % every == 0)):
                drain()  # The time of the steps before is theirs.
                pause = time.monotonic()
                evaluation = hooks.evaluate(state.params)
                console.say(
                    f"step {step:,}: validation loss {evaluation.loss_nats:.4f} nats, perplexity "
                    f"{evaluation.perplexity:,.2f}, accuracy {evaluation.masked_accuracy:.1%}"
                )
                log.write(
                    "eval",
                    step=step,
                    examples_seen=progress.examples_seen,
                    loss_nats=evaluation.loss_nats,
                    perplexity=evaluation.perplexity,
                    masked_accuracy=evaluation.masked_accuracy,
                    num_predictions=evaluation.num_predictions,
                )
                window_started += time.monotonic() - pause

            if step % config.checkpoint.save_every_steps == 0 or last or wish.requested:
                drain()
                pause = time.monotonic()
                check_finite()
                record = hooks.record(progress)
                if evaluation is not None:
                    record["evaluation_loss_nats"] = evaluation.loss_nats
                store.save(step, state, record)
                saved_step = step
                window_started += time.monotonic() - pause

    if saved_step != progress.step:  # The signal came between two looks at it.
        drain()
        check_finite()
        store.save(progress.step, state, hooks.record(progress))
    store.wait()
    complete = progress.step >= num_steps
    if not complete:
        note("interrupted", f"interrupted: step {progress.step:,} is saved")
    return complete


def _is_finite(newest: StepMetrics | None, window: Window) -> bool:
    """Whether the weights are numbers.

    A gradient that is not finite makes weights that are not, one step before the loss shows it.
    """
    norm = 0.0 if newest is None else float(newest.gradient_norm)
    return math.isfinite(window.loss) and math.isfinite(norm)


def _diverged(step: int) -> MachineError:
    return MachineError(
        f"The loss or its gradient is not a finite number at step {step}: the run has diverged. "
        "Lower optimizer.peak_learning_rate, raise optimizer.warmup_steps or set "
        "optimizer.clip_global_norm=1.0, and restart from an earlier checkpoint with "
        "--resume=STEP."
    )


def _train_entry(config: PretrainConfig, window: Window, newest: StepMetrics) -> dict[str, Any]:
    mean = Evaluation.of(window.loss, window.correct, window.count)
    return {
        "loss_nats": mean.loss_nats,
        "perplexity": perplexity(mean.loss_nats),
        "masked_accuracy": mean.masked_accuracy,
        "learning_rate": float(newest.learning_rate),
        "gradient_norm": float(newest.gradient_norm),
    }


def _speed(config: PretrainConfig, seconds_per_step: float) -> dict[str, float]:
    tokens = config.train.batch_size * config.data.sequence_length
    speed = {"tokens_per_second": tokens / seconds_per_step}
    share = peak_share(config, seconds_per_step)
    return speed if share is None else {**speed, "peak_share": share}
