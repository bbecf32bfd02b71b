"""Fixtures that the conftest of several folders imports."""

import pytest

from roberta_jax.train.pretrain import pretrain
from tests.train import runs


@pytest.fixture(scope="session", autouse=True)
def programs(tmp_path_factory):
    """Compiled programs are shared by the tests, and by the processes that they start."""
    folder = tmp_path_factory.getbasetemp() / "programs"
    runs.remember_programs(folder)
    yield folder
    runs.forget_programs()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A prepared dataset of about 400 rows; tests must not change it."""
    return runs.make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def complete(dataset, programs, tmp_path_factory):
    """The workdir of a run of 20 steps without a stop; tests must not change it."""
    workdir = tmp_path_factory.mktemp("complete") / "run"
    assert pretrain(runs.tiny_config(dataset), workdir) == 0
    return workdir
