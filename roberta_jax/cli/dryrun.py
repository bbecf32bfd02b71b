r"""Compiles the real training step for devices that are not there, and says whether it fits.

roberta-jax dryrun --config=configs/pretrain/pods/large_v5e_256.py --topology=v5e:16x16
roberta-jax dryrun --config=configs/pretrain/base.py --topology=v5e:4x4 --search
roberta-jax dryrun --config=configs/pretrain/small.py --topology=cpu:8

Of every device, it tells the parameters, the optimizer state, the activations and the peak against
its memory; the FLOPs of a step, the bytes that memory and links move, and from the chip's published
rates a range of times, for a step and for the whole recipe. --search tries meshes, microbatches and
rematerialization. No device and no dataset is needed; TPUs need their compiler: pip install
'roberta-jax[tpu]'. Exit code 0: it fits; 1: it does not.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_of, define_config
from roberta_jax.config import PretrainConfig
from roberta_jax.errors import UserError

if TYPE_CHECKING:
    from roberta_jax.dryrun.topologies import Topology

SUMMARY = (
    "compile the real step for a TPU pod that is not there: does it fit, how long does it take"
)
TAKES_CONFIG = True


def define_flags(flags: absl_flags.FlagValues, argv: list[str]) -> None:
    """Defines the flags of this verb in `flags`."""
    define_config(flags, argv)
    absl_flags.DEFINE_string(
        "topology",
        "",
        "Devices: v5e:16x16, v6e:8x8, v4:4x4x4, v5p:4x4x4 (chips along each axis), or cpu:8.",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "search", False, "Try other settings, and list those that fit.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "output", "", "Also writes what is found as a page, FILE.html.", flag_values=flags
    )
    absl_flags.DEFINE_float(
        "memory",
        0.0,
        "GiB that a device has; 0: what its chip has, and no limit on a CPU.",
        flag_values=flags,
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"dryrun takes no positional arguments, got {arguments}.")
    from roberta_jax.dryrun.page import result_page
    from roberta_jax.dryrun.topologies import parse_topology
    from roberta_jax.dryrun.verdict import advice, lines
    from roberta_jax.dryrun.worker import compile_for

    config = config_of(flags)
    config.validate()
    topology = parse_topology(flags.topology)
    if not 0 <= flags.memory < math.inf:
        raise UserError(f"--memory={flags.memory:g} must be GiB of a device, or 0 for its own.")
    if flags.memory * 2**30 > topology.memory_bytes:
        raise UserError(
            f"--memory={flags.memory:g} GiB is more than a device of {topology.name} has, "
            f"{topology.memory_bytes / 2**30:g} GiB."
        )
    memory_bytes = flags.memory * 2**30 or topology.memory_bytes
    _check_output(flags.output)
    if flags.search:
        return _search(flags, config, topology, memory_bytes)
    print(f"Compiling the step for {topology.name}, a minute or a few ...", flush=True)
    result = compile_for(config, topology, memory_bytes)
    for line in lines(result, topology, memory_bytes):
        print(line)
    fits = result.fits(memory_bytes)
    print("It fits." if fits else advice(result, topology, memory_bytes))
    _write(flags.output, lambda: result_page(result, topology, memory_bytes, _name(flags)))
    return 0 if fits else 1


def _search(flags: Any, config: PretrainConfig, topology: "Topology", memory_bytes: float) -> int:
    from roberta_jax.dryrun.page import search_page
    from roberta_jax.dryrun.search import Found, best_first, found_lines, search
    from roberta_jax.dryrun.worker import compile_for

    found: list[Found] = []
    tries = search(
        config,
        topology,
        memory_bytes,
        compile_for=compile_for,
        say=lambda line: print(line, flush=True),
    )
    try:
        for each in tries:
            found.append(each)
    except KeyboardInterrupt:
        if found:
            print("\nInterrupted; of what was tried until then:")
            print("\n".join(found_lines(best_first(found, topology), topology)), flush=True)
        raise
    found = best_first(found, topology)
    for line in found_lines(found, topology):
        print(line)
    _write(flags.output, lambda: search_page(found, topology, memory_bytes, _name(flags)))
    return 0 if found else 1


def _name(flags: Any) -> str:
    return Path(flags["config"].config_filename).stem


def _check_output(output: str) -> None:
    """Refuses a name of a page before minutes of compiling."""
    path = Path(output)
    if output and (path.suffix.lower() != ".html" or path.is_dir()):
        raise UserError(f"--output={output} must be the name of a file that ends in .html.")


def _write(output: str, page: Callable[[], str]) -> None:
    if output:
        from etils import epath

        from roberta_jax.page.document import write_whole

        print(f"Wrote {write_whole(epath.Path(output), page().encode())}")
