"""What one chip has: memory, its published rates, and the networks that join it to others."""

import dataclasses

from roberta_jax.train.hardware import PEAK_FLOPS

GIB = 2**30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A kind of TPU or GPU; jax shows each as one device.

    Attributes:
      name: as in a topology.
      device_kind: jax's name of it.
      memory_bytes: what a program can use, a little less than is published.
      memory_bytes_per_second: to and from its memory (HBM).
      link_bytes_per_second: to its neighbours, over all its links, in one direction.
      num_axes: of a topology: v5e:4x8 has two, v5p:4x4x4 has three; 1: a switch joins GPUs.
      hop_seconds: until the first byte is at a neighbour.
      domain_chips: the most that such links join: a pod of TPUs, a machine of GPUs.
      network_bytes_per_second: its share of the network between domains, in one direction.
      chips_per_host: that one process feeds.
      configuration: of its cores, by libtpu's name, where the usual one has two devices a chip.
    """

    name: str
    device_kind: str
    memory_bytes: int
    memory_bytes_per_second: float
    link_bytes_per_second: float
    num_axes: int
    hop_seconds: float
    domain_chips: int
    network_bytes_per_second: float
    chips_per_host: int
    configuration: str = ""

    @property
    def peak_flops(self) -> float:
        """Dense bfloat16 matrix FLOPs per second, as a run takes its share of."""
        return PEAK_FLOPS[self.device_kind]


# The memory is what libtpu 0.0.42 names when a program is too large. The rates are those of Google
# Cloud's page on each TPU version (docs.cloud.google.com/tpu/docs/v5e, v5p, v6e): HBM bandwidth,
# and half of the bidirectional bandwidth of the interconnect per chip (400, 1,200 and 800 GB/s;
# older texts of the v6e page had 3,584 Gbit/s, which is 12% more). The network is that of a pod
# over its 256 chips (v5e 6.4, v6e 25.6 Tbit/s), or as given per chip (v5p, 50 Gbit/s). The largest
# slice of v5p has 6,144 chips. v4 has six links of 50 GB/s and pods of 4,096 chips; its network is
# taken to be that of v5p. jax's own table has the same within 0.3%
# (jax/_src/pallas/mosaic/tpu_info.py), but for the HBM of v5p: 2,460 GB/s.
# A hop of about a microsecond is from "How to Scale Your Model" (jax-ml.github.io/scaling-book).
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="v4",
            device_kind="TPU v4",
            memory_bytes=int(30.75 * GIB),
            memory_bytes_per_second=1228e9,
            link_bytes_per_second=300e9,
            num_axes=3,
            hop_seconds=1e-6,
            domain_chips=4096,
            network_bytes_per_second=50e9 / 8,
            chips_per_host=4,
            configuration="megacore",
        ),
        Chip(
            name="v5e",
            device_kind="TPU v5 lite",
            memory_bytes=int(15.75 * GIB),
            memory_bytes_per_second=819e9,
            link_bytes_per_second=200e9,
            num_axes=2,
            hop_seconds=1e-6,
            domain_chips=256,
            network_bytes_per_second=6.4e12 / 8 / 256,
            chips_per_host=8,
        ),
        Chip(
            name="v5p",
            device_kind="TPU v5",
            memory_bytes=int(95.74 * GIB),
            memory_bytes_per_second=2765e9,
            link_bytes_per_second=600e9,
            num_axes=3,
            hop_seconds=1e-6,
            domain_chips=6144,
            network_bytes_per_second=50e9 / 8,
            chips_per_host=4,
        ),
        Chip(
            name="v6e",
            device_kind="TPU v6 lite",
            memory_bytes=int(31.25 * GIB),
            memory_bytes_per_second=1638e9,
            link_bytes_per_second=400e9,
            num_axes=2,
            hop_seconds=1e-6,
            domain_chips=256,
            network_bytes_per_second=25.6e12 / 8 / 256,
            chips_per_host=8,
        ),
    )
}

# No dry run compiles for them: only `scaling` knows them. HBM and half of the bidirectional
# NVLink are those of NVIDIA's data sheets (600 GB/s for A100, 900 for H100 and H200), as others
# quote them; machines of eight, joined by InfiniBand of 200 (A100) or 400 Gbit/s a GPU, as in DGX
# A100 and H100. jax takes three quarters of a GPU's memory unless XLA_CLIENT_MEM_FRACTION
# says otherwise. A hop is that of NCCL's own estimates for NVLink (src/graph/tuning.cc, ring).
GPUS = {
    chip.name: chip
    for chip in (
        Chip(
            name="a100",
            device_kind="NVIDIA A100-SXM4-80GB",
            memory_bytes=int(0.75 * 80e9),
            memory_bytes_per_second=2039e9,
            link_bytes_per_second=300e9,
            num_axes=1,
            hop_seconds=3.4e-6,
            domain_chips=8,
            network_bytes_per_second=200e9 / 8,
            chips_per_host=8,
        ),
        Chip(
            name="h100",
            device_kind="NVIDIA H100 80GB HBM3",
            memory_bytes=int(0.75 * 80e9),
            memory_bytes_per_second=3350e9,
            link_bytes_per_second=450e9,
            num_axes=1,
            hop_seconds=3.4e-6,
            domain_chips=8,
            network_bytes_per_second=400e9 / 8,
            chips_per_host=8,
        ),
        Chip(
            name="h200",
            device_kind="NVIDIA H200",
            memory_bytes=int(0.75 * 141e9),
            memory_bytes_per_second=4800e9,
            link_bytes_per_second=450e9,
            num_axes=1,
            hop_seconds=3.4e-6,
            domain_chips=8,
            network_bytes_per_second=400e9 / 8,
            chips_per_host=8,
        ),
    )
}
