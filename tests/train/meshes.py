"""One real step, as `pretrain` compiles it, of a tiny model on any mesh of the fake devices."""

import dataclasses
import math

import jax
import numpy as np

from roberta_jax import config as c
from roberta_jax.data.pairs import TOKENS_PER_LABEL
from roberta_jax.data.rows import NextSentence
from roberta_jax.objective.masking import Masker
from roberta_jax.parallel.mesh import mesh_of
from roberta_jax.parallel.placement import place
from roberta_jax.parallel.tables import path_name, shardings
from roberta_jax.train.inputs import InputMaker
from roberta_jax.train.microbatches import with_microbatches
from roberta_jax.train.plan import make_plan
from roberta_jax.train.programs import make_programs
from roberta_jax.train.shapes import check_shapes

BOS, PAD, EOS = 0, 1, 2
LENGTH = 32
ONE = (1, 1, 1, 1)


@dataclasses.dataclass
class Rows:
    tokens: np.ndarray
    index: np.ndarray
    epoch: np.ndarray
    labels: np.ndarray | None = None


def small_config(*, optimizer=None, batch_size=16, **encoder):
    """Every mesh of 8 devices can split it; dropout is everywhere; two microbatches."""
    length = encoder.get("max_positions", LENGTH)
    return c.PretrainConfig(
        seed=3,
        data=c.DataConfig(sequence_length=length),
        encoder=c.EncoderConfig(
            **{
                "vocab_size": 300,
                "vocab_padding_multiple": 8,
                "num_layers": 2,
                "hidden_size": 32,
                "num_heads": 8,
                "mlp_size": 64,
                "max_positions": length,
                "compute_dtype": "float32",
                # Attention that is far from uniform, so that it matters what it looks at.
                "initializer_range": 0.1,
                "activation_dropout_rate": 0.1,
                **encoder,
            }
        ),
        # An epsilon above the elements of the gradient makes the update almost linear in it, where
        # Adam would turn the rounding error of one that is by chance near 0 into a step.
        optimizer=c.OptimizerConfig(
            **{
                "peak_learning_rate": 0.1,
                "epsilon": 3e-2,
                "clip_global_norm": 0.5,
                **(optimizer or {}),
            }
        ),
        schedule=c.ScheduleConfig(warmup="1 steps"),
        train=c.TrainConfig(duration="20 steps", batch_size=batch_size, num_microbatches=2),
    )


def small_rows(config):
    """Rows of unlike lengths, so with unlike numbers of predictions; pairs where they are asked."""
    count, length = config.train.batch_size, config.data.sequence_length
    generator = np.random.Generator(np.random.Philox(key=1))
    tokens = generator.integers(4, config.encoder.vocab_size - 1, (count, length)).astype(np.int32)
    tokens[:, 0] = BOS
    for row in range(0, count, 3):
        tokens[row, length - row % length or length :] = PAD
    labels = None
    if config.encoder.next_sentence_head:
        tokens[:, [3, 6]] = EOS
        shape = (count, max(length // TOKENS_PER_LABEL, 1))
        labels = np.full(shape, NextSentence.NONE, np.int32)
        labels[:, 0] = np.where(generator.random(count) < 0.5, *_LABELS)
    numbers = np.arange(count, dtype=np.uint32)
    return Rows(tokens, numbers * 7, numbers % 2, labels)


_LABELS = (int(NextSentence.RANDOM), int(NextSentence.NEXT))


def maker_of(config):
    special = (BOS, PAD, EOS, 3, config.encoder.vocab_size - 1)
    masker = Masker(config.masking, config.encoder.vocab_size, special, mask_id=special[-1])
    pairs = config.encoder.next_sentence_head
    return InputMaker(masker, bos_id=BOS, eos_id=EOS, next_sentence=pairs, token_types=pairs)


def small_mesh(sizes):
    return mesh_of(sizes, jax.devices()[: math.prod(sizes)])


def programs_on(config, mesh):
    plan = with_microbatches(config, make_plan(config, lambda path: 1), mesh)
    check_shapes(config, mesh)
    return make_programs(config, plan, maker_of(config), mesh)


class Stepper:
    """The compiled step of a config on a mesh, which can be taken again and again.

    Attributes:
      begin: the state before it, on the host; by default that of the config, drawn on this mesh.
    """

    def __init__(self, config, sizes, begin=None):
        self.config, self.mesh = config, small_mesh(sizes)
        self.programs = programs_on(config, self.mesh)
        with jax.set_mesh(self.mesh):
            self.begin = jax.device_get(self.programs.init()) if begin is None else begin

    def __call__(self):
        """The state after one step, and its metrics, as {path: array}."""
        with jax.set_mesh(self.mesh):
            placed = jax.device_put(self.begin, shardings(self.programs.shapes, self.mesh))
            batch = place(small_rows(self.config), self.mesh)
            state, metrics = self.programs.steps[0](placed, batch)
            leaves = jax.tree.leaves(state)
            assert all(len(leaf.sharding.device_set) == self.mesh.size for leaf in leaves)
            return named(state), named(metrics)

    def text(self):
        """The compiled program."""
        with jax.set_mesh(self.mesh):
            batch = place(small_rows(self.config), self.mesh)
            return self.programs.steps[0].lower(self.programs.shapes, batch).compile().as_text()


def named(tree):
    return {
        path_name(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def factorizations(number, parts=4):
    """All ways to write a number as a product of so many, in order."""
    if parts == 1:
        return [(number,)]
    return [
        (first, *rest)
        for first in range(1, number + 1)
        if number % first == 0
        for rest in factorizations(number // first, parts - 1)
    ]
