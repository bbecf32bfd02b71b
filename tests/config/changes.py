"""Configs that differ from the defaults, and how they are refused."""

import pytest

from roberta_jax import config as c
from roberta_jax.errors import UserError


def changed(**changes):
    """The defaults with section__field=value."""
    config = c.PretrainConfig()
    for path, value in changes.items():
        section, _, field = path.rpartition("__")
        setattr(getattr(config, section) if section else config, field, value)
    return config


def refusal(**changes):
    """The text of the UserError of `validate`, one paragraph about a setting."""
    with pytest.raises(UserError) as caught:
        changed(**changes).validate()
    text = str(caught.value)
    assert "\n" not in text and text.startswith("config.") and text.endswith(".")
    return text


def assert_refused(path, value, allowed):
    """That `value` at section__field is refused by name, with the value and what is allowed."""
    text = refusal(**{path: value})
    assert path.replace("__", ".") in text and str(value) in text and allowed in text


def phases(*many):
    """A tuple of phases of half the run each, or of what the given fields say."""
    return tuple(c.PhaseConfig(**({"duration": "50%"} | fields)) for fields in many)
