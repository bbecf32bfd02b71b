"""A tiny pretrained model, and tasks that it can learn in seconds."""

from tests.train.fixtures import complete, dataset, programs  # noqa: F401
