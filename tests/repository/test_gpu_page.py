"""docs/gpu.md names flags that the installed XLA has, with the defaults that it has."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from roberta_jax.train.hardware import PEAK_FLOPS

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
ROWS = re.findall(r"^\| `--(xla_\w+)=([^`]*)` \| `+([^`]*)`+ \| .+ \|$", PAGE, re.MULTILINE)
# One that XLA reads as a list without a name for "none": an empty value clears the default list.
LISTS = {"xla_gpu_enable_command_buffer", "xla_gpu_disable_async_collectives"}
GONE = re.findall(r"`--(xla_\w+)`", PAGE.partition("Gone, and")[2].partition("\n\n")[0])


def flags_of(settings):
    return " ".join(f"--{name}={value}" for name, value in settings)


def start_xla(flags):
    """A Python that reads XLA_FLAGS, which aborts where one is not known."""
    return subprocess.run(
        [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )


def changed_flags(flags, folder):
    """Names of what is not as by default: XLA writes them beside a program."""
    script = "import jax; jax.jit(lambda x: x + 1).lower(1.0).compile()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_dump_to={folder} {flags}".strip()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (written,) = folder.glob("*.debug_options")
    return {line.split(":")[0] for line in written.read_text().splitlines() if "_gpu_" in line}


def test_the_tables_are_read_whole():
    listed = re.findall(r"^\| `--xla", PAGE, re.MULTILINE)
    assert len(ROWS) == len(listed) >= 15
    assert len({name for name, _, _ in ROWS}) == len(ROWS)
    assert len(GONE) >= 5


def test_xla_knows_every_flag():
    named = set(re.findall(r"--(xla_\w+)", PAGE)) - set(GONE)
    assert named == {name for name, _, _ in ROWS}
    done = start_xla(flags_of((name, value) for name, value, _ in ROWS))
    assert done.returncode == 0, done.stderr[-300:]


@pytest.mark.parametrize("name", GONE)
def test_xla_refuses_what_is_said_to_be_gone(name):
    done = start_xla(f"--{name}=true")
    assert done.returncode != 0 and f"Unknown flag in XLA_FLAGS: --{name}" in done.stderr


def test_the_defaults_are_those_of_xla_and_the_values_are_others(tmp_path):
    defaults = [(name, default) for name, _, default in ROWS if name not in LISTS]
    assert changed_flags(flags_of(defaults), tmp_path / "defaults") == set()
    values = [(name, value) for name, value, _ in ROWS]
    changed = changed_flags(flags_of(values), tmp_path / "values")
    # Newer versions keep some under a name without "enable": …_pipelined_all_gather is
    # …_pipeline_all_gather.
    known = {name.replace("enable_pipelined", "pipeline") for name, _, _ in ROWS}
    assert {name.replace("enable_pipelined", "pipeline") for name in changed} == known


def test_the_chips_with_a_known_peak_are_those_of_the_table():
    text = " ".join(PAGE.partition("## Share of the peak")[2].split())
    for kind, peak in PEAK_FLOPS.items():
        if kind.startswith("NVIDIA"):
            name = re.sub(r"-\d+GB$", "", kind.removeprefix("NVIDIA "))
            assert name in text and f"{peak / 1e12:.0f}" in text
