"""Memory that is freed stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, threading
from roberta_jax.parallel.host_memory import keep_freed_memory

print(keep_freed_memory())
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]

def take_and_free():
    place = library.malloc(200 << 20)
    ctypes.memset(place, 1, 200 << 20)
    library.free(place)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):  # In a thread, as XLA does.
    before = faults()
    thread = threading.Thread(target=take_and_free)
    thread.start()
    thread.join()
    print(faults() - before)
"""
PAGES = (200 << 20) // os.sysconf("SC_PAGE_SIZE")


def run(platforms):
    """What keep_freed_memory returned, and the page faults of three rounds."""
    environment = {**os.environ, "JAX_PLATFORMS": platforms}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    kept, *faults = done.stdout.split()
    return kept == "True", [int(count) for count in faults]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_on_a_cpu_the_second_round_needs_no_new_pages():
    kept, (first, *later) = run("cpu")
    assert kept and first > 0.99 * PAGES
    assert max(later) < PAGES / 50


@pytest.mark.parametrize("platforms", ["cuda", "tpu", "cuda,cpu"])
def test_where_there_may_be_an_accelerator_nothing_is_changed(platforms):
    kept, faults = run(platforms)
    assert not kept and min(faults) > 0.99 * PAGES
