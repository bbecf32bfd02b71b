"""What lies where in a workdir, and the config that belongs to it."""

import json
import math

import pytest

from roberta_jax.config import PhaseConfig
from roberta_jax.errors import UserError
from roberta_jax.train import workdir as workdir_module
from roberta_jax.train.workdir import (
    changed_settings,
    check_same_model,
    read_config,
    replace_text,
    write_config,
)
from tests.train.runs import tiny_config


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = tiny_config("data", optimizer__clip_global_norm=math.inf)
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    assert json.loads((tmp_path / "config.json").read_text())["encoder"]["num_layers"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a workdir: it has no config.json"),
        ("{", "cannot be read"),
        ("[]", "cannot be read: it holds no JSON object"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(tmp_path)


def test_a_config_of_another_version_is_refused_naming_the_keys(tmp_path):
    write_config(tmp_path, tiny_config())
    values = json.loads((tmp_path / "config.json").read_text())
    values["encoder"]["num_experts"] = values["encoder"].pop("num_layers")
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="num_experts.* Use the version that wrote it"):
        read_config(tmp_path)


def test_what_defines_the_arrays_must_match_and_the_rest_may_change(tmp_path):
    stored = tiny_config(encoder__vocab_size=300)
    check_same_model(tmp_path, stored, tiny_config("elsewhere", encoder__vocab_size=300, seed=9))
    changes = {"encoder__dropout_rate": 0.5, "encoder__compute_dtype": "bfloat16"}
    check_same_model(tmp_path, stored, tiny_config(encoder__vocab_size=300, **changes))
    for name in workdir_module._MODEL_IDENTITY:
        other = {name.replace(".", "__"): "x" if name.endswith("fingerprint") else 7}
        with pytest.raises(UserError, match=f"holds another model: {name} is "):
            check_same_model(tmp_path, stored, tiny_config(**{"encoder__vocab_size": 300} | other))


def test_changed_settings_are_listed_with_both_values():
    changes = changed_settings(tiny_config(), tiny_config(seed=4, train__duration="30 steps"))
    assert changes == {"seed": (3, 4), "train.duration": ("20 steps", "30 steps")}


def test_phases_that_were_not_there_are_changes():
    phases = (PhaseConfig(duration="100%", batch_size=8),)
    changes = changed_settings(tiny_config(), tiny_config(phases=phases))
    assert changes == {"phases": ("none", "100%")}
    other = (PhaseConfig(duration="100%", batch_size=16),)
    changes = changed_settings(tiny_config(phases=phases), tiny_config(phases=other))
    assert changes == {"phases[0].batch_size": (8, 16)}
    assert changed_settings(tiny_config(phases=phases), tiny_config(phases=phases)) == {}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_text(path, "old")

    def refuse(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workdir_module.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "new")
    assert path.read_text() == "old"
