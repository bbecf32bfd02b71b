"""How a fine-tuning run tells of its steps."""

from typing import Any

from roberta_jax.tasks.task import Task
from roberta_jax.train.console import duration
from roberta_jax.train.evaluate import mean
from roberta_jax.train.plan import Phase
from roberta_jax.train.progress import Window
from roberta_jax.train.telling import Telling


def of_finetuning(task: Task, *, num_seeds: int) -> Telling:
    """Loss and accuracy over all seeds, examples per second of all seeds together."""

    def entry(window: Window) -> dict[str, Any]:
        values = {"loss_nats": mean(window.loss, window.count)}
        if task.kind != "regression":
            values["accuracy"] = mean(window.correct, window.count)
        return values

    def line(values: dict[str, Any], num_steps: int, seconds_left: float) -> str:
        parts = [f"step {values['step']:,}/{num_steps:,}", f"loss {values['loss_nats']:.4f}"]
        if "accuracy" in values:
            parts.append(f"accuracy {values['accuracy']:.1%}")
        parts += [
            f"lr {values['learning_rate']:.2e}",
            f"{values['examples_per_second']:,.1f} examples/s",
            f"{duration(seconds_left)} left",
        ]
        return " | ".join(parts)

    def rates(phase: Phase, seconds: float) -> dict[str, float]:
        return {"examples_per_second": num_seeds * phase.batch_size / seconds}

    def compiled_for(batch: dict[str, Any]) -> str:
        # Rows are filled up to one of few lengths, and each has a program of its own.
        return f" for rows of {batch['tokens'].shape[-1]} tokens"

    return Telling(entry, line, rates, lambda phase: 1.0, compiled_for)
