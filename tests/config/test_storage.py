"""A config as JSON, and back."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta_jax import config as c
from roberta_jax.errors import UserError
from tests.config.changes import changed, phases

PHASES = st.lists(
    st.builds(
        c.PhaseConfig,
        duration=st.sampled_from(["", "90%", "7038 steps"]),
        path=st.sampled_from(["", "ü/128"]),
        sequence_length=st.integers(0, 512),
        batch_size=st.integers(0, 1 << 16),
        peak_learning_rate=st.floats(0, 1),
        warmup=st.sampled_from(["", "28.43%"]),
    ),
    max_size=3,
).map(tuple)


@given(
    phases=PHASES,
    norm=st.just(math.inf) | st.floats(0, 1e9),
    score=st.just(math.inf) | st.floats(0, 1e9),
    rate=st.floats(0, 1),
)
def test_a_config_survives_being_stored_phases_and_infinity_too(phases, norm, score, rate):
    config = changed(
        phases=phases,
        optimizer__clip_global_norm=norm,
        divergence__spike_z_score=score,
        masking__rate=rate,
        data__path="ü",
    )
    text = c.dumps(config)
    assert "Infinity" not in text and text.endswith("}\n")
    assert c.from_dict(c.PretrainConfig, json.loads(text)) == config


def test_a_folder_may_be_called_inf():
    config = changed(data__path="inf")
    assert c.from_dict(c.PretrainConfig, c.to_dict(config)) == config


def test_infinity_is_a_word_and_phases_are_a_list():
    values = c.to_dict(changed(phases=phases({"duration": "5 steps"})))
    assert values["optimizer"]["clip_global_norm"] == "inf"
    assert [phase["duration"] for phase in values["phases"]] == ["5 steps"]
    assert c.to_dict(c.PretrainConfig())["phases"] == []


def test_a_key_that_is_missing_takes_its_default():
    values = c.to_dict(changed(seed=7, phases=phases({"batch_size": 64})))
    del values["divergence"], values["optimizer"]["kind"], values["phases"][0]["path"]
    assert c.from_dict(c.PretrainConfig, values) == changed(
        seed=7, phases=phases({"batch_size": 64})
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda values: values["encoder"].update(num_experts=8), "EncoderConfig .*num_experts"),
        (lambda values: values.update(experts={}), "PretrainConfig .*experts"),
        (lambda values: values["phases"][0].update(pace=1), "PhaseConfig .*pace"),
        (lambda values: values["optimizer"].update(warmup_steps=1), "OptimizerConfig .*warmup_st"),
        (lambda values: values.update(train=3), "TrainConfig .*3"),
    ],
)
def test_unknown_keys_are_refused_and_named(change, name):
    values = c.to_dict(changed(phases=phases({})))
    change(values)
    with pytest.raises(UserError, match=rf"{name}.* Use the version that wrote it, or start a new"):
        c.from_dict(c.PretrainConfig, values)


def test_field_paths_are_all_the_settings_in_order():
    paths = c.field_paths(changed(train__batch_size=7))
    assert list(paths)[:2] == ["seed", "data.path"]
    assert paths["train.batch_size"] == 7
    config = c.PretrainConfig()
    sections = [getattr(config, field.name) for field in dataclasses.fields(config)]
    count = sum(len(dataclasses.fields(one)) for one in sections if dataclasses.is_dataclass(one))
    assert len(paths) == count + 1  # The seed.


def test_field_paths_name_the_phases_by_number():
    paths = c.field_paths(changed(phases=phases({"duration": "90%"}, {"duration": "10%"})))
    durations = {name: value for name, value in paths.items() if name.startswith("phases")}
    assert durations["phases[0].duration"] == "90%" and durations["phases[1].duration"] == "10%"
    assert len(durations) == 2 * len(dataclasses.fields(c.PhaseConfig))


def test_a_field_is_set_by_the_path_that_names_it():
    config = c.FinetuneConfig()
    for name, value in (("seed", 5), ("fit.epochs", 2.5), ("optimizer.clip_global_norm", 1.0)):
        c.set_field(config, name, value)
        assert c.field_paths(config)[name] == value
    with pytest.raises(AttributeError):
        c.set_field(config, "fit.epoch", 1.0)
