"""The memory of a CPU's steps, kept from one step to the next.

XLA takes the memory of a step's intermediate values from malloc and frees it after the step. glibc
hands such large pieces back to the system, which then clears every page anew at the next step: a
sixth to a third of the time of a step on a CPU. Here glibc is told to keep them.
"""

import ctypes
import importlib.util
import os

# Options of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees; call it before jax makes its devices.

    Returns:
      Whether that was done: not where there may be an accelerator, whose steps use other memory,
      and not where the C library is not glibc.
    """
    if not _only_cpu():
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version")):
        return False
    # One arena: those of other threads are too small for the memory of a step, which they would
    # take from the system after all. Threads that are there already keep theirs.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all([library.mallopt(option, value) for option, value in settings])


def _only_cpu() -> bool:
    """Whether jax has no accelerator to look for, without asking it, which would make devices."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu")))
