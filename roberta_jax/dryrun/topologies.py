"""Names of devices that need not be there: `v5e:16x16`, `v5p:4x4x4`, `cpu:8`."""

import dataclasses
import math
import re

from roberta_jax.dryrun.chips import CHIPS, Chip
from roberta_jax.errors import UserError

# More fake devices than this only cost time.
MOST_CPU_DEVICES = 512
# Of each thread of libtpu's own.
STACK_BYTES = 4 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Topology:
    """A number of devices of one kind.

    Attributes:
      name: as it was given.
      sizes: chips along every axis.
      chip: their kind; None: fake devices of this machine's CPU.
    """

    name: str
    sizes: tuple[int, ...]
    chip: Chip | None

    @property
    def num_devices(self) -> int:
        """Devices of the mesh."""
        return math.prod(self.sizes)

    @property
    def memory_bytes(self) -> float:
        """What a device has; infinity for a CPU, whose devices share what the machine has."""
        return math.inf if self.chip is None else float(self.chip.memory_bytes)

    def environment(self) -> dict[str, str]:
        """What must be set before jax is imported."""
        variables = {"JAX_PLATFORMS": "cpu"}  # There is no TPU here to be looked for.
        if self.chip is None:
            variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={self.num_devices}"
        else:
            variables["TPU_SKIP_MDS_QUERY"] = "1"  # Nor a server that knows of one.
            # No chip is taken, so others may use libtpu too. Without this, one process at a time
            # may, and one that was killed leaves a lock file that stops all later ones.
            variables["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
            # With the default, libtpu 0.0.42.1 overflowed it on RoBERTa large for v6e:8x8.
            variables["LIBTPU_INIT_ARGS"] = f"--fibers_default_thread_stack_size={STACK_BYTES}"
        return variables


def parse_topology(name: str) -> Topology:
    """The topology of a name.

    Raises:
      UserError: it is none that is known; the paragraph lists those that are.
    """
    if not name:
        raise UserError(f"--topology is missing: the devices to compile for. {_known()}")
    kind, _, shape = name.partition(":")
    if kind not in (*CHIPS, "cpu") or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise UserError(f"--topology={name} is not known. {_known()}")
    sizes = tuple(map(int, shape.split("x")))
    if kind == "cpu":
        if len(sizes) > 1 or sizes[0] > MOST_CPU_DEVICES:
            raise UserError(
                f"--topology={name} is not known: a CPU has one number of devices, from 1 to "
                f"{MOST_CPU_DEVICES}, such as cpu:8."
            )
        return Topology(name, sizes, None)
    chip = CHIPS[kind]
    if len(sizes) != chip.num_axes:
        example = "x".join(["4"] * chip.num_axes)
        raise UserError(
            f"--topology={name} is not known: {kind} chips are wired along {chip.num_axes} axes, "
            f"such as {kind}:{example}. {_known()}"
        )
    return Topology(name, sizes, chip)


def _known() -> str:
    kinds = ", ".join(f"{chip.name}:{'x'.join('ABC'[: chip.num_axes])}" for chip in CHIPS.values())
    return (
        f"There are {kinds} (chips along each axis: v5e:16x16 has 256), and cpu:N for N fake "
        "devices of this machine."
    )
