"""Masks are the same however a batch is laid out over devices, microbatches and processes."""

import functools
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.objective.mask_layout import EPOCHS, INDEX, KEY_SEED, ROWS, TOKENS, make_masker

KINDS = pytest.mark.parametrize(
    ("whole_words", "kind"),
    [(False, "dynamic"), (True, "static")],
    ids=["tokens", "whole words, static"],
)
FIELDS = ("tokens", "positions", "targets", "weights", "segments")


@functools.cache
def run_of(whole_words, kind="dynamic"):
    draw = make_masker(whole_words, kind=kind, num_static_masks=3)
    return jax.jit(lambda *inputs: draw(*inputs, jax.random.key(KEY_SEED)))


@functools.cache
def whole(whole_words, kind="dynamic"):
    """The masks of one device, all rows at once."""
    batch = run_of(whole_words, kind)(TOKENS, INDEX, EPOCHS)
    assert len(batch.tokens.devices()) == 1
    return jax.tree.map(np.asarray, batch)


def assert_same(found, wanted):
    for name in FIELDS:
        left, right = np.asarray(getattr(found, name)), getattr(wanted, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)


@KINDS
@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_masks_do_not_depend_on_the_number_of_devices(num_devices, whole_words, kind):
    devices = jax.devices()[:num_devices]
    mesh = jax.make_mesh((num_devices,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    placed = jax.device_put((TOKENS, INDEX, EPOCHS), NamedSharding(mesh, P("data")))
    batch = run_of(whole_words, kind)(*placed)
    assert len(batch.tokens.sharding.device_set) == num_devices
    assert_same(batch, whole(whole_words, kind))


@KINDS
@pytest.mark.parametrize("size", [2, 8])
def test_masks_do_not_depend_on_the_microbatch(size, whole_words, kind):
    run, wanted = run_of(whole_words, kind), whole(whole_words, kind)
    for begin in range(0, ROWS, size):
        part = slice(begin, begin + size)
        found = run(TOKENS[part], INDEX[part], EPOCHS[part])
        assert_same(found, jax.tree.map(lambda leaf, part=part: leaf[part], wanted))


@KINDS
def test_masks_inside_a_scan_over_microbatches(whole_words, kind):
    draw = make_masker(whole_words, kind=kind, num_static_masks=3)

    @jax.jit
    def scanned(*inputs):
        parts = [array.reshape(4, 4, *array.shape[1:]) for array in inputs]
        key = jax.random.key(KEY_SEED)
        _, found = jax.lax.scan(lambda carry, part: (carry, draw(*part, key)), None, tuple(parts))
        return jax.tree.map(lambda leaf: leaf.reshape(ROWS, *leaf.shape[2:]), found)

    assert_same(scanned(TOKENS, INDEX, EPOCHS), whole(whole_words, kind))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("whole_words", [False, True], ids=["tokens", "whole words"])
def test_masks_do_not_depend_on_the_number_of_processes(tmp_path, whole_words):
    """Two processes with one device each; every one of them holds its rows only."""
    address = f"127.0.0.1:{free_port()}"
    settings = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    paths = [tmp_path / f"{process}.npz" for process in range(2)]
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.objective.mask_worker", str(process), "2"),
                *(address, str(whole_words), str(path)),
            ],
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process, path in enumerate(paths)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said
    parts = [np.load(path) for path in paths]
    assert [len(part["rows"]) for part in parts] == [8, 8]
    wanted = whole(whole_words)
    for name in ("rows", "tokens", "positions", "targets", "weights"):
        found = np.concatenate([part[name] for part in parts])
        right = np.arange(ROWS) if name == "rows" else getattr(wanted, name)
        np.testing.assert_array_equal(found, right, err_msg=name)
