"""What kinds of errors there are, and their exit codes."""

import pytest

from roberta_jax.errors import MachineError, UserError


@pytest.mark.parametrize(("kind", "code"), [(UserError, 2), (MachineError, 1)])
def test_every_kind_has_its_exit_code_and_is_an_ordinary_value_error(kind, code):
    error = kind("What was given, what is allowed, what to do.")
    assert error.exit_code == code
    assert isinstance(error, ValueError) and isinstance(error, UserError)
    assert str(error) == "What was given, what is allowed, what to do."
