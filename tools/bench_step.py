"""Tokens per second of one training step, against Hugging Face + PyTorch on the same machine.

    make bench                                    # small and base, then compile time over depth
    python tools/bench_step.py --size=small --rounds=7

Everyone trains RoBERTa of the same size on the same rows, with dropout 0.1 and AdamW, forward,
backward and update. All contestants live in one process and take turns; a figure is the median over
the rounds, so that a busy moment of the machine hits all of them.

- `PyTorch float32`, `PyTorch bf16`: RobertaForMaskedLM as it is (bf16: autocast).
- `PyTorch bf16, sparse head`: the same, with the vocabulary projection on masked positions only.
- `roberta_jax float32`, `roberta_jax bf16`: our step, masking on the device included.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import torch
import transformers

from roberta_jax.config import (
    DataConfig,
    EncoderConfig,
    OptimizerConfig,
    PretrainConfig,
    ScheduleConfig,
    TrainConfig,
)
from roberta_jax.data.loader import Batch
from roberta_jax.objective.masking import Masker
from roberta_jax.parallel.host_memory import keep_freed_memory
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.placement import place
from roberta_jax.train.inputs import InputMaker
from roberta_jax.train.plan import make_plan
from roberta_jax.train.programs import make_programs

VOCAB_SIZE, MASK_ID, SPECIAL_IDS = 50_265, 50_264, (0, 1, 2, 3, 50_264)


@dataclasses.dataclass(frozen=True)
class Size:
    """What is trained: an encoder on rows of `length` tokens."""

    layers: int
    width: int
    heads: int
    length: int
    rows: int
    steps: int  # Of a turn.

    def config(self, compute_dtype: str) -> PretrainConfig:
        return PretrainConfig(
            data=DataConfig(sequence_length=self.length),
            encoder=EncoderConfig(
                vocab_size=VOCAB_SIZE,
                num_layers=self.layers,
                hidden_size=self.width,
                num_heads=self.heads,
                mlp_size=4 * self.width,
                compute_dtype=compute_dtype,
            ),
            optimizer=OptimizerConfig(peak_learning_rate=1e-4),
            schedule=ScheduleConfig(warmup="10 steps"),
            train=TrainConfig(duration="1000000 steps", batch_size=self.rows, num_microbatches=1),
        )


SIZES = {
    "small": Size(layers=4, width=256, heads=4, length=128, rows=32, steps=3),
    "base": Size(layers=12, width=768, heads=12, length=128, rows=8, steps=1),
}


def random_rows(size: Size) -> np.ndarray:
    """Token rows [B, T] int32 as `prepare` writes them: `<s>`, ordinary tokens, `</s>`."""
    rows = np.random.default_rng(0).integers(4, MASK_ID, (size.rows, size.length), np.int32)
    rows[:, 0], rows[:, -1] = 0, 2
    return rows


class Ours:
    """The step of roberta_jax, compiled at construction."""

    def __init__(self, size: Size, compute_dtype: str):
        config = size.config(compute_dtype)
        self.mesh = make_mesh(config.mesh)
        numbers = np.arange(size.rows, dtype=np.uint32)
        with jax.set_mesh(self.mesh):
            masker = Masker(config.masking, VOCAB_SIZE, SPECIAL_IDS, MASK_ID)
            maker = InputMaker(masker, bos_id=0, eos_id=2, next_sentence=False, token_types=False)
            plan = make_plan(config, lambda path: size.rows)
            programs = make_programs(config, plan, maker, self.mesh)
            self.state, (step,) = programs.init(), programs.steps
            self.batch = place(Batch(random_rows(size), numbers, 0 * numbers), self.mesh)
            started = time.monotonic()
            self.step = step.lower(self.state, self.batch).compile()
            self.compile_seconds = time.monotonic() - started

    def __call__(self) -> None:
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.step(self.state, self.batch)
            jax.block_until_ready(metrics)


class Theirs:
    """RobertaForMaskedLM with torch.optim.AdamW."""

    def __init__(self, size: Size, *, bf16: bool, sparse_head: bool):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.bf16, self.sparse_head = bf16, sparse_head
        self.model = transformers.RobertaForMaskedLM(
            transformers.RobertaConfig(
                vocab_size=VOCAB_SIZE,
                num_hidden_layers=size.layers,
                hidden_size=size.width,
                num_attention_heads=size.heads,
                intermediate_size=4 * size.width,
                max_position_embeddings=514,
                type_vocab_size=1,
                layer_norm_eps=1e-5,
            )
        ).to(self.device)
        self.model.train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01
        )
        rows = random_rows(size)
        predicted = np.zeros(rows.shape, bool)
        for row in predicted:  # As many predictions as ours.
            places = np.random.default_rng(1).permutation(size.length - 2)
            row[1 + places[: round(0.15 * (size.length - 2))]] = True
        self.labels = torch.tensor(np.where(predicted, rows, -100), device=self.device).long()
        self.tokens = torch.tensor(np.where(predicted, MASK_ID, rows), device=self.device).long()

    def __call__(self) -> None:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            if self.sparse_head:
                chosen = self.labels != -100
                states = self.model.roberta(self.tokens).last_hidden_state[chosen]
                logits = self.model.lm_head(states)
                loss = torch.nn.functional.cross_entropy(logits, self.labels[chosen])
            else:
                loss = self.model(self.tokens, labels=self.labels).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device == "cuda":
            torch.cuda.synchronize()


BASELINE = "PyTorch float32"
CONTESTANTS: dict[str, Callable[[Size], Callable[[], None]]] = {
    BASELINE: lambda size: Theirs(size, bf16=False, sparse_head=False),
    "PyTorch bf16": lambda size: Theirs(size, bf16=True, sparse_head=False),
    "PyTorch bf16, sparse head": lambda size: Theirs(size, bf16=True, sparse_head=True),
    "PyTorch float32, sparse head": lambda size: Theirs(size, bf16=False, sparse_head=True),
    "roberta_jax float32": lambda size: Ours(size, "float32"),
    "roberta_jax bf16": lambda size: Ours(size, "bfloat16"),
}


def compare(name: str, rounds: int) -> None:
    """Prints tokens per second of every contestant at one size."""
    size = SIZES[name]
    print(
        f"\n{name}: {size.layers} layers x {size.width}, rows of {size.length} x {size.rows}, "
        f"vocabulary {VOCAB_SIZE:,}; median of {rounds} rounds of {size.steps} steps",
        flush=True,
    )
    runners = {label: make(size) for label, make in CONTESTANTS.items()}
    seconds: dict[str, list[float]] = {label: [] for label in runners}
    for round_number in range(rounds + 1):  # The first one warms up.
        for label, run in runners.items():
            started = time.perf_counter()
            for _ in range(size.steps):
                run()
            if round_number:
                seconds[label].append((time.perf_counter() - started) / size.steps)
    baseline = statistics.median(seconds[BASELINE])
    for label, times in seconds.items():
        middle = statistics.median(times)
        spread = f"{min(times):.2f} to {max(times):.2f} s a step"
        speed = size.rows * size.length / middle
        print(f"  {label:<30} {speed:>8,.0f} tokens/s  {baseline / middle:5.2f} x  ({spread})")


def compile_time_over_depth(rounds: int) -> None:
    """Prints how long the step of 4 and of 24 layers takes to compile."""
    jax.config.update("jax_enable_compilation_cache", False)
    seconds: dict[int, list[float]] = {4: [], 24: []}
    for _ in range(rounds):
        for layers, times in seconds.items():
            size = dataclasses.replace(SIZES["small"], layers=layers)
            jax.clear_caches()
            times.append(Ours(size, "float32").compile_seconds)
    shallow, deep = (statistics.median(seconds[layers]) for layers in (4, 24))
    print(
        f"\ncompile time: 4 layers {shallow:.1f} s, 24 layers {deep:.1f} s, ratio "
        f"{deep / shallow:.2f} (median of {rounds})"
    )


def main() -> None:
    """Runs what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", choices=[*SIZES, "none"], default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile_rounds", type=int, default=3, help="0 leaves this part out")
    flags = parser.parse_args()
    keep_freed_memory()  # As `pretrain` does; in one process, PyTorch gains by it too.
    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind}, jax {jax.__version__}", end=", ")
    print(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
    for name in flags.size or SIZES:
        if name != "none":
            compare(name, flags.rounds)
    if flags.compile_rounds:
        compile_time_over_depth(flags.compile_rounds)


if __name__ == "__main__":
    main()
