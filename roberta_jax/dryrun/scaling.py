"""How the time of a step falls with the number of chips: a model on paper, nothing is compiled.

What the chips divide among them (products, the update) is set against what they don't: each reads
all weights for each of its microbatches, sends a whole gradient, and waits for links. Rows are
split over all chips, as in the mesh (data: -1, fsdp: 1, tensor: 1). `docs/scaling.md` has the same
in words, where the constants come from, and what is left out.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from roberta_jax.config import EncoderConfig, PretrainConfig
from roberta_jax.dryrun.chips import Chip
from roberta_jax.encoder.model import abstract_params
from roberta_jax.parallel.mesh import AXES
from roberta_jax.parallel.tables import moment_spec, path_name, spec_of
from roberta_jax.train.hardware import step_flops
from roberta_jax.train.microbatches import USED_SHARE, choose_microbatches
from roberta_jax.train.plan import Phase

# What a chip reaches of its peak while it waits for no other, with the traffic of activations and
# the vector arithmetic between the products: fast and slow end.
FAST_PEAK_SHARE, SLOW_PEAK_SHARE = 0.6, 0.3
# From one domain to another, in seconds: what NCCL takes for a hop of a tree over InfiniBand
# (src/graph/tuning.cc); nothing is published for the network between pods.
NETWORK_HOP_SECONDS = 14e-6
# Rounds of collectives, one after the other, in a step of RoBERTa large on v5e:16x16: ten sums of
# two rounds each and seven gathers (docs/dryrun.md).
ROUNDS = 27
# What a host's loader was measured to give, on two cores (docs/data.md).
LOADER_TOKENS_PER_SECOND = 19.6e6
FLOAT_BYTES = 4  # Weights, gradients, their sums and the moments are float32.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Seconds of a step, by what they are spent on.

    Attributes:
      num_chips: over which the rows are split.
      num_microbatches: parts of a batch.
      products: all matrix products of a chip, at its peak.
      weights: what a chip reads and writes of weights, gradient and moments, at its memory's rate.
      links: what it sends, over all its links at the full rate.
      slow_links: the same over one link at a time.
      latency: of all rounds of collectives, however little they send.
      input: for a host to read the rows of its chips, which it does beside the step.
      model_products: as `products`, without those that are computed again.
    """

    num_chips: int
    num_microbatches: int
    products: float
    weights: float
    links: float
    slow_links: float
    latency: float
    input: float
    model_products: float

    @property
    def fastest(self) -> float:
        """The longest of all, as if each hid the others."""
        return max(self.products / FAST_PEAK_SHARE, self.weights, self.links, self.input)

    @property
    def slowest(self) -> float:
        """The sum, as if none hid another; only reading the input is beside the step here too."""
        step = self.products / SLOW_PEAK_SHARE + self.weights + self.slow_links + self.latency
        return max(step, self.input)

    @property
    def efficiency(self) -> tuple[float, float]:
        """Share of the time that more chips make shorter: slow end, fast end.

        1 where twice the chips take half the time.
        """
        return (
            self.products / SLOW_PEAK_SHARE / self.slowest,
            self.products / FAST_PEAK_SHARE / self.fastest,
        )

    @property
    def peak_share(self) -> tuple[float, float]:
        """The model's FLOPs as a share of the chips' peak: slow end, fast end."""
        return self.model_products / self.slowest, self.model_products / self.fastest

    @property
    def waits_for(self) -> tuple[str, str]:
        """What takes longest beside the products: slow end, fast end."""
        slow = {"weights": self.weights, "links": self.slow_links, "latency": self.latency}
        fast = {"weights": self.weights, "links": self.links, "input": self.input}
        return max(slow, key=slow.__getitem__), max(fast, key=fast.__getitem__)


def predict(config: PretrainConfig, phase: Phase, chip: Chip, num_chips: int) -> Prediction:
    """The time of a step on so many chips.

    Args:
      config: with the size of the vocabulary.
      phase: of its plan; 0 microbatches are chosen by the memory of a chip.
      chip: its rates.
      num_chips: over which the rows are split.

    Raises:
      ValueError: the rows cannot be split evenly over the chips.
    """
    if num_chips < 1 or phase.batch_size % num_chips:
        raise ValueError(f"{phase.batch_size} rows cannot be split over {num_chips} chips.")
    parts = phase.num_microbatches or _microbatches(config, phase, chip, num_chips)
    peak = num_chips * chip.peak_flops
    # A sum goes around twice: every chip gets a part of it, then all of it.
    arrays = 2 * weight_bytes(config) + divided_bytes(config, num_chips)
    inside, between = _seconds_around(arrays, chip, num_chips)
    hosts = max(num_chips / chip.chips_per_host, 1)
    return Prediction(
        num_chips=num_chips,
        num_microbatches=parts,
        products=computed_flops(config, phase) / peak,
        weights=held_bytes(config, parts, num_chips) / chip.memory_bytes_per_second,
        links=inside + between,
        slow_links=inside * 2 * chip.num_axes + between,  # Two links along every axis.
        latency=_latency(chip, num_chips),
        input=phase.tokens_per_step / hosts / LOADER_TOKENS_PER_SECOND,
        model_products=step_flops(config, phase) / peak,
    )


def most_chips(
    config: PretrainConfig, phase: Phase, chip: Chip, efficiency: float
) -> tuple[int, int]:
    """The most chips, a power of two, that keep such an efficiency: slow end, fast end.

    No more than the rows of a batch are tried; 0 if one chip is too many already.
    """
    found = [0, 0]
    for power in range(phase.batch_size.bit_length()):
        if phase.batch_size % 2**power:
            break
        for end, reached in enumerate(predict(config, phase, chip, 2**power).efficiency):
            if reached >= efficiency:
                found[end] = 2**power
    return found[0], found[1]


def computed_flops(config: PretrainConfig, phase: Phase) -> float:
    """FLOPs of the products of a step on all chips, with those that are computed again."""
    encoder, length = config.encoder, phase.sequence_length
    width = encoder.hidden_size
    attention = 4 * length * width  # Scores and mixture, of a token in a layer.
    weights = 8 * width * width + 4 * width * encoder.mlp_size
    again = {"none": 0, "dots": attention, "full": attention + weights}[encoder.rematerialization]
    return step_flops(config, phase) + float(phase.tokens_per_step * encoder.num_layers * again)


def weight_bytes(config: PretrainConfig) -> int:
    """Bytes of all weights, the padding of the vocabulary too; the gradient has as many."""
    return FLOAT_BYTES * sum(math.prod(shape) for _, shape in _arrays(config))


def divided_bytes(config: PretrainConfig, num_chips: int) -> int:
    """Of the weights, those whose update the chips divide among them (ZeRO-1), to be gathered.

    An array stays whole where no axis of it can be divided, as 1,024 cannot by 2,048 chips.
    """
    if num_chips == 1:
        return 0
    mesh = _mesh(num_chips)
    return FLOAT_BYTES * sum(
        math.prod(shape)
        for spec, shape in _arrays(config)
        if moment_spec(spec, shape, mesh) != spec
    )


def sent_bytes(config: PretrainConfig, num_chips: int) -> float:
    """What a chip sends in a step around one ring of all: (n - 1) / n of an array each time."""
    arrays = 2 * weight_bytes(config) + divided_bytes(config, num_chips)
    return arrays * (num_chips - 1) / num_chips


def held_bytes(config: PretrainConfig, num_microbatches: int, num_chips: int) -> float:
    """What a chip moves from and to memory of weights, gradient and moments in a step.

    For every microbatch, the weights are read forward and backward (and once more to compute
    again) and a gradient is written; where there are several, it is added to a sum: two reads and a
    write. The update of the chip's part reads gradient, weights and two moments and writes the last
    three; then the gathered weights are written.
    """
    weights = weight_bytes(config)
    passes = 3 + (config.encoder.rematerialization == "full") + 3 * (num_microbatches > 1)
    return weights * (num_microbatches * passes + 1) + 7 * _own_bytes(config, num_chips)


def _own_bytes(config: PretrainConfig, num_chips: int) -> float:
    """Of the weights, those that one chip updates."""
    divided = divided_bytes(config, num_chips)
    return weight_bytes(config) - divided + divided / num_chips


def _arrays(config: PretrainConfig) -> tuple[tuple[P, tuple[int, ...]], ...]:
    """Spec and shape of every weight."""
    return _arrays_of(tuple(dataclasses.asdict(config.encoder).items()))


@functools.cache
def _arrays_of(encoder: tuple[tuple[str, Any], ...]) -> tuple[tuple[P, tuple[int, ...]], ...]:
    shapes = abstract_params(EncoderConfig(**dict(encoder)))
    return tuple(
        (spec_of(path_name(path)), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    )


def _mesh(num_chips: int) -> AbstractMesh:
    return AbstractMesh((num_chips, *[1] * (len(AXES) - 1)), AXES)


def _microbatches(config: PretrainConfig, phase: Phase, chip: Chip, num_chips: int) -> int:
    """As few as fit a chip, by the estimate of `pretrain`; no average of the weights is kept."""
    state = 3 * weight_bytes(config) + 2 * _own_bytes(config, num_chips)
    budget = max(USED_SHARE * chip.memory_bytes - state, 1)
    mesh: Mesh = _mesh(num_chips)  # type: ignore[assignment]  # Only its shape is asked for.
    return choose_microbatches(config, phase, mesh, budget)


def _seconds_around(num_bytes: float, chip: Chip, num_chips: int) -> tuple[float, float]:
    """To send arrays around all chips once: within the domains, and between them.

    In a domain of d chips, each sends (d - 1) / d of the arrays. Of m domains, the chips with the
    same d-th part of the arrays send (m - 1) / m of it to each other.
    """
    domain, domains = _domains(chip, num_chips)
    inside = num_bytes * (domain - 1) / domain / chip.link_bytes_per_second
    part = num_bytes / domain
    return inside, part * (domains - 1) / domains / chip.network_bytes_per_second


def _latency(chip: Chip, num_chips: int) -> float:
    """A round goes along every axis of a domain, then through a tree of the domains."""
    domain, domains = _domains(chip, num_chips)
    hops = chip.num_axes * (domain ** (1 / chip.num_axes) - 1)
    return ROUNDS * (hops * chip.hop_seconds + math.log2(domains) * NETWORK_HOP_SECONDS)


def _domains(chip: Chip, num_chips: int) -> tuple[int, float]:
    """Chips of a domain, and domains."""
    domain = min(num_chips, chip.domain_chips)
    return domain, num_chips / domain
