"""Types of values, and how a refusal is worded."""

import pytest

from roberta_jax import config as c
from roberta_jax.config import checks
from roberta_jax.errors import UserError
from tests.config.changes import changed, phases, refusal


def test_a_refusal_says_what_was_given_and_what_is_allowed():
    checks.require(True, "a.b", 3, "at least 1")
    with pytest.raises(UserError, match=r"^config\.a\.b is 0; it must be at least 1\.$"):
        checks.require(False, "a.b", 0, "at least 1")
    with pytest.raises(UserError, match=r"^config\.a\.b is 'z'; it must be one of x, y\.$"):
        checks.one_of("z", "a.b", ("x", "y"))


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("seed", 1.0, "int"),
        ("seed", True, "int"),
        ("train__batch_size", "many", "int"),
        ("train__duration", 1000, "str"),
        ("schedule__warmup", 0.06, "str"),
        ("optimizer__beta1", "0.9", "float"),
        ("optimizer__beta1", True, "float"),
        ("data__path", None, "str"),
        ("masking__mask_special_tokens", 1, "bool"),
        ("encoder__num_layers", None, "int"),
    ],
)
def test_a_value_of_another_type_is_refused(path, value, kind):
    text = refusal(**{path: value})
    assert path.replace("__", ".") in text and repr(value) in text
    assert text.endswith(f"it must be of type {kind}.")


def test_the_fields_of_a_phase_have_types_too():
    text = refusal(phases=phases({}, {"batch_size": 2.5}))
    assert text == "config.phases[1].batch_size is 2.5; it must be of type int."


@pytest.mark.parametrize(
    "value", [[c.PhaseConfig(duration="5 steps")], ("5 steps",), ({"duration": "5 steps"},), None]
)
def test_phases_are_a_tuple_of_phases(value):
    assert refusal(phases=value).endswith("it must be a tuple of PhaseConfig.")


def test_a_whole_number_is_a_fine_rate():
    config = changed(
        optimizer__weight_decay=1, phases=phases({"peak_learning_rate": 1, "warmup": "1%"})
    )
    config.validate()
    assert type(config.optimizer.weight_decay) is float
    assert type(config.phases[0].peak_learning_rate) is float


def test_only_a_field_that_is_declared_as_a_tuple_has_an_item_type():
    assert checks.item_type(tuple[c.PhaseConfig, ...]) is c.PhaseConfig
    assert checks.item_type(tuple[int, ...]) is None
    assert checks.item_type(c.PhaseConfig) is None


def test_a_misspelt_field_fails_at_once():
    with pytest.raises(AttributeError):
        changed(train__durration="3 steps")
    with pytest.raises(TypeError):
        c.TrainConfig(durration="3 steps")
