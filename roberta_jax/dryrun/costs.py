"""How long a step takes on a chip: a range, from what it must do and the chip's published rates."""

import dataclasses

from roberta_jax.dryrun.chips import Chip
from roberta_jax.dryrun.result import PhaseResult, Result

# Of its peak, what a chip's matrix unit is taken to reach at the slow end.
SLOW_PEAK_SHARE = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step, and what they are made of, each at the published rate.

    Attributes:
      matmul: of the matrix products.
      memory: of reading and writing memory.
      links: of sending to other devices, over all links of a chip.
      slow_matmul: of the products with the matrix unit at SLOW_PEAK_SHARE.
      slow_links: of sending with one link at work at a time.
    """

    matmul: float
    memory: float
    links: float
    slow_matmul: float
    slow_links: float

    @property
    def fastest(self) -> float:
        """The longest of the three, as if each hid the others."""
        return max(self.matmul, self.memory, self.links)

    @property
    def slowest(self) -> float:
        """The sum of the slow ones, as if none hid another."""
        return self.slow_matmul + self.memory + self.slow_links


def step_time(phase: PhaseResult, num_devices: int, chip: Chip) -> StepTime | None:
    """The time of a step; None if it didn't compile.

    Not in it: waiting for data, latencies, and vector arithmetic (GELU, dropout's random bits)
    where it takes longer than memory.
    """
    if phase.compiled is None:
        return None
    matmul = phase.computed_flops / num_devices / chip.peak_flops
    memory = phase.compiled.memory_traffic_bytes / chip.memory_bytes_per_second
    links = phase.compiled.sent_bytes / chip.link_bytes_per_second
    return StepTime(
        matmul,
        memory,
        links,
        slow_matmul=matmul / SLOW_PEAK_SHARE,
        slow_links=links * 2 * chip.num_axes,  # Two links along every axis.
    )


def run_seconds(result: Result, num_devices: int, chip: Chip) -> tuple[float, float] | None:
    """The fastest and the slowest time of all steps of a run; None where a phase doesn't fit."""
    fastest = slowest = 0.0
    for phase in result.phases:
        time = step_time(phase, num_devices, chip)
        if time is None:
            return None
        fastest += phase.num_steps * time.fastest
        slowest += phase.num_steps * time.slowest
    return fastest, slowest
