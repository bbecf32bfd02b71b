"""The recipes of `configs/pretrain/pods`."""

import pathlib
import runpy

import pytest

from roberta_jax.dryrun.topologies import parse_topology

FOLDER = pathlib.Path(__file__).parents[2] / "configs" / "pretrain" / "pods"
PODS = {
    "base_v5e_16": ("base", "v5e:4x4"),
    "large_v5e_256": ("large", "v5e:16x16"),
    "large_v5p_64": ("large", "v5p:4x4x4"),
    "large_v6e_64": ("large", "v6e:8x8"),
}


def config_of(path):
    return runpy.run_path(str(path))["get_config"]()


def test_there_is_a_recipe_of_every_pod_and_no_other():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(PODS)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_changes_nothing_but_how_the_batch_is_divided(name):
    published, topology = PODS[name]
    config = config_of(FOLDER / f"{name}.py")
    config.validate()
    assert config.train.batch_size == 8192 and config.data.sequence_length == 512
    assert config.encoder.compute_dtype == "bfloat16"
    assert config.train.num_microbatches > 0
    rows = config.train.batch_size // config.train.num_microbatches
    assert rows % parse_topology(topology).num_devices == 0
    config.train.num_microbatches = 0
    assert config == config_of(FOLDER.parent / f"{published}.py")


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_a_recipe_card(name):
    text = (FOLDER / f"{name}.py").read_text()
    for heading in ("Command", "Hardware", "Source"):
        assert f"\n{heading} " in text
    assert f"--config=configs/pretrain/pods/{name}.py --topology={PODS[name][1]}" in text
    assert "Not measured" in text
