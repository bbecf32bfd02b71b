import contextlib
import itertools

import numpy as np
import pytest

from roberta_jax.data.loader import Loader
from roberta_jax.data.mixture import MixedDataset, open_rows, weights_of
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.errors import UserError


@pytest.fixture(scope="module")
def other_folder(corpus_folder, tokenizer_folder, tmp_path_factory):
    return make(corpus_folder / "a.txt", tokenizer_folder, tmp_path_factory.mktemp("other"))


def make(text, tokenizer_folder, folder, **settings):
    prepare(
        inputs=[str(text)],
        tokenizer_folder=tokenizer_folder,
        output=folder / "dataset",
        settings=PrepareSettings(**{"sequence_length": 32, "validation_fraction": 0, **settings}),
        say=lambda line: None,
    )
    return folder / "dataset"


@pytest.fixture
def mixed(dataset_folder, other_folder):
    return open_rows(f"{dataset_folder}, {other_folder}", "train")


def test_rows_are_numbered_through_all_datasets(mixed, dataset_folder, other_folder):
    one, two = open_rows(str(dataset_folder), "train"), open_rows(str(other_folder), "train")
    assert isinstance(mixed, MixedDataset) and len(mixed) == len(one) + len(two)
    index = np.array([len(one), 0, len(one) - 1, len(mixed) - 1])
    expected = [two.read([0]), one.read([0]), one.read([len(one) - 1]), two.read([len(two) - 1])]
    np.testing.assert_array_equal(mixed.read(index), np.concatenate(expected))
    for wrong in (-1, len(mixed)):
        with pytest.raises(IndexError):
            mixed.read(np.array([wrong]))
    assert mixed.fingerprint not in (one.fingerprint, two.fingerprint)
    assert mixed.tokenizer().fingerprint == one.tokenizer().fingerprint


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}])
def test_a_loader_draws_by_weight_and_begins_anywhere(mixed, dataset_folder, options):
    def batches(start, count):
        loader = Loader(mixed, batch_size=20, seed=3, weights=weights_of(mixed, "3, 1"), **options)
        with contextlib.closing(loader.batches(start)) as iterator:
            return list(itertools.islice(iterator, count))

    size = len(mixed.datasets[0])
    first = batches(0, 6)
    for batch in first:
        assert (batch.index < size).sum() == 15
        np.testing.assert_array_equal(batch.tokens, mixed.read(batch.index))
    for later, batch in zip(batches(80, 2), first[4:], strict=True):
        np.testing.assert_array_equal(later.index, batch.index)
        np.testing.assert_array_equal(later.epoch, batch.epoch)


def test_without_weights_rows_are_drawn_alike(mixed):
    assert weights_of(mixed, "") == [len(dataset) for dataset in mixed.datasets]
    assert weights_of(mixed.datasets[0], "") == [len(mixed.datasets[0])]


@pytest.mark.parametrize("weights", ["1", "1,2,3", "1,-1", "1,0", "1,x", "1,inf", "1,nan", "1,"])
def test_unusable_weights_are_refused(mixed, weights):
    with pytest.raises(UserError, match="must be 2 positive numbers"):
        weights_of(mixed, weights)


def test_a_split_that_some_datasets_lack_is_that_of_the_others(
    dataset_folder, other_folder, tmp_path
):
    path = f"{other_folder},{dataset_folder}"
    validation = open_rows(path, "validation")
    assert len(validation) == len(open_rows(str(dataset_folder), "validation")) > 0
    (tmp_path / "same").symlink_to(other_folder)
    assert len(open_rows(f"{other_folder},{tmp_path}/same", "validation")) == 0


def test_a_comma_in_the_name_of_a_folder_is_no_border(dataset_folder, tmp_path):
    (tmp_path / "a,b").symlink_to(dataset_folder)
    assert len(open_rows(str(tmp_path / "a,b"), "train")) == 344


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_length": 40}, "sequence_length 32 and 40"),
        ({"format": "doc_sentences"}, "attention row and example"),
    ],
)
def test_datasets_that_do_not_go_together_are_refused(
    dataset_folder, corpus_folder, tokenizer_folder, tmp_path, settings, message
):
    other = make(corpus_folder / "a.txt", tokenizer_folder, tmp_path, **settings)
    with pytest.raises(UserError, match=f"cannot be mixed: they have .*{message}"):
        open_rows(f"{dataset_folder},{other}", "train")


def test_a_missing_dataset_is_named(dataset_folder, tmp_path):
    with pytest.raises(UserError, match="nowhere is no prepared dataset"):
        open_rows(f"{dataset_folder},{tmp_path}/nowhere", "train")


@pytest.mark.parametrize("path", ["{0},,{1}", "{0},{0}", "{0},", ","])
def test_a_path_with_a_slip_is_refused(dataset_folder, other_folder, path):
    with pytest.raises(UserError, match="several different ones"):
        open_rows(path.format(dataset_folder, other_folder), "train")
