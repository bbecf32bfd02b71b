"""What one chip of a topology has: memory, and its published rates."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True, slots=True)
class Chip:
    """A kind of TPU; jax shows each as one device.

    Attributes:
      name: as in a topology.
      device_kind: jax's name of it.
      memory_bytes: what its compiler lets a program use, a little less than is published.
      peak_flops: dense bfloat16 matrix FLOPs per second.
      memory_bytes_per_second: to and from its memory (HBM).
      link_bytes_per_second: to its neighbours, over all its links, in one direction.
      num_axes: of a topology: v5e:4x8 has two, v5p:4x4x4 has three.
      configuration: of its cores, by libtpu's name, where the usual one has two devices a chip.
    """

    name: str
    device_kind: str
    memory_bytes: int
    peak_flops: float
    memory_bytes_per_second: float
    link_bytes_per_second: float
    num_axes: int
    configuration: str = ""


# The memory is what libtpu 0.0.42 names when a program is too large. The rates are those of Google
# Cloud's pages on each TPU version: bfloat16 peak, HBM bandwidth, and half of the bidirectional
# bandwidth of the interconnect per chip (1,600, 4,800 and 3,584 Gbit/s where only that is given; of
# v4, six links of 50 GB/s).
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "TPU v4", int(30.75 * GIB), 275e12, 1228e9, 300e9, 3, "megacore"),
        Chip("v5e", "TPU v5 lite", int(15.75 * GIB), 197e12, 819e9, 200e9, 2),
        Chip("v5p", "TPU v5", int(95.74 * GIB), 459e12, 2765e9, 600e9, 3),
        Chip("v6e", "TPU v6 lite", int(31.25 * GIB), 918e12, 1638e9, 448e9, 2),
    )
}
