"""A tiny dataset and a finished run of it."""

from tests.train.fixtures import complete, dataset, programs  # noqa: F401
