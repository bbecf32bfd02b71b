"""Fixtures that several folders of tests import into their conftest."""

import pytest

from roberta_jax.train.pretrain import pretrain
from tests.train import runs


    """Things that are made once and found again: name → result of the maker."""
    known = {}

    def get(name, make):
        if name not in known:
            known[name] = make(tmp_path_factory.mktemp(name))
        return known[name]

    return get


@pytest.fixture(scope="package", autouse=True)
def programs(tmp_path_factory):
    """Compiled programs are shared by the tests of a folder, and by processes that they start."""
    folder = tmp_path_factory.getbasetemp() / "programs"
    runs.remember_programs(folder)
    yield folder
    runs.forget_programs()


    """A prepared dataset of about 400 rows; tests must not change it."""
    return runs.make_dataset(tmp_path_factory.mktemp("data"))


    """The workdir of a run of 20 steps without a stop; tests must not change it."""
    workdir = tmp_path_factory.mktemp("complete") / "run"
    assert pretrain(runs.tiny_config(dataset), workdir) == 0
    return workdir
