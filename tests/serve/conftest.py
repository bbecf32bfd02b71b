"""A tiny dataset and a finished run of it, for the test with a real model."""

from tests.train.fixtures import complete, dataset, programs  # noqa: F401
