"""Workdirs with made-up curves, for the tests of the report."""

import json
import math
import random
from pathlib import Path

from roberta_jax import config as config_module


def make_config(**changes):
    """A small PretrainConfig; `changes` are {"section__field": value}."""
    config = config_module.PretrainConfig()
    config.encoder.vocab_size = 8000
    config.encoder.num_layers, config.encoder.hidden_size, config.encoder.num_heads = 4, 256, 4
    config.data.sequence_length = 128
    config.train.batch_size = 32
    for path, value in changes.items():
        section, _, field = path.rpartition("__")
        setattr(getattr(config, section) if section else config, field, value)
    return config


def make_lines(
    *,
    num_steps=2000,
    log_every=10,
    floor=2.2,
    seed=0,
    rate=1e-3,
    warmup=200,
    batch_size=32,
    pairs=False,
):
    """Lines of a run whose loss falls from ln(8000) towards `floor`.

    With `pairs`, the run has learnt to tell which segment follows, too.
    """
    noise = random.Random(seed)
    lines = [
        {"kind": "event", "step": 0, "event": "start", "message": "fresh start"},
        {"kind": "event", "step": 0, "event": "unigram_entropy", "nats": 6.31},
    ]
    for step in range(log_every, num_steps + 1, log_every):
        mean = floor + (math.log(8000) - floor) * math.exp(-((step / (0.25 * num_steps)) ** 0.7))
        for kind in ("train", "eval") if step % (25 * log_every) == 0 else ("train",):
            loss = mean + (noise.gauss(0, 0.06) if kind == "train" else 0.08)
            line = {
                "step": step,
                "kind": kind,
                "examples_seen": batch_size * step,
                "loss_nats": loss,
                "perplexity": math.exp(loss),
                "masked_accuracy": max(0.0, 0.72 - 0.08 * loss),
                "seconds": 0.9 * step,
            }
            if pairs:
                line["next_sentence_accuracy"] = 0.95 - 0.45 * math.exp(-step / num_steps)
                line["next_sentence_loss_nats"] = 0.7 * math.exp(-step / num_steps)
            if kind == "train":
                line["updates_skipped"] = 0
                up, down = step / warmup, (num_steps - step) / (num_steps - warmup)
                line["learning_rate"] = rate * min(up, down)
                line["gradient_norm"] = abs(noise.gauss(0.6, 0.1)) + 12 * math.exp(-step / 60)
                line["tokens_per_second"] = 4600 + noise.gauss(0, 60) - 3000 * (step == log_every)
            lines.append(line)
    return lines


def write_workdir(folder: Path, lines=None, config=None) -> Path:
    """Writes what a run leaves behind; returns the folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config_module.dumps(config or make_config()))
    text = "".join(json.dumps(line) + "\n" for line in (make_lines() if lines is None else lines))
    (folder / "metrics.jsonl").write_text(text)
    return folder
