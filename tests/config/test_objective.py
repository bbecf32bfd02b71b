"""Which terms a loss can have."""

import pytest

from tests.config.changes import assert_refused, changed


@pytest.mark.parametrize("value", [-1e-4, 1.0])
def test_a_weight_that_is_not_allowed_is_refused(value):
    assert_refused("objective__z_loss_weight", value, "in [0, 1)")


@pytest.mark.parametrize("value", [0.0, 1e-4])
def test_none_and_the_one_of_palm_are_allowed(value):
    changed(objective__z_loss_weight=value).validate()
