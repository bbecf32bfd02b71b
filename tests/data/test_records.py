import concurrent.futures
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.records import ShardWriter, open_dataset
from roberta_jax.errors import MachineError, UserError


@pytest.fixture
def copied_folder(dataset_folder, tmp_path):
    """A dataset that a test may damage."""
    return shutil.copytree(dataset_folder, tmp_path / "dataset")


def first_shard(folder):
    return sorted(folder.glob("train-*"))[0]


def test_rows_come_back_in_the_order_asked(tmp_path):
    rows = np.random.Generator(np.random.Philox(key=1)).integers(0, 60_000, (50, 8))
    writer = ShardWriter(tmp_path, "train", dtype="uint16", rows_per_shard=20)
    for start in range(0, 50, 7):
        writer.write(rows[start : start + 7])
    shards = writer.close()
    assert [shard.rows for shard in shards] == [20, 20, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"train-0000{i}-of-00003.array_record" for i in range(3)
    ]


def test_reading_is_random_access(train_rows):
    everything = train_rows.read(np.arange(len(train_rows)))
    assert everything.dtype == np.uint16
    indices = np.array([343, 0, 99, 100, 100, 7, 200])
    np.testing.assert_array_equal(train_rows.read(indices), everything[indices])
    assert train_rows.read(np.array([], int)).shape == (0, 32)


@pytest.mark.parametrize("index", [-1, 344])
def test_a_row_number_outside_is_an_error(train_rows, index):
    with pytest.raises(IndexError, match="344"):
        train_rows.read(np.array([0, index]))


def test_threads_may_read_together(dataset_folder):
    rows = open_dataset(dataset_folder, "train")
    expected = rows.read(np.arange(344))
    fresh = open_dataset(dataset_folder, "train")
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        for result in executor.map(fresh.read, [np.arange(344)] * 40):
            np.testing.assert_array_equal(result, expected)


def test_an_open_dataset_travels_to_another_process(train_rows):
    train_rows.read(np.array([0]))
    copy = pickle.loads(pickle.dumps(train_rows))
    np.testing.assert_array_equal(copy.read(np.array([5])), train_rows.read(np.array([5])))


def test_the_dataset_carries_its_tokenizer(train_rows, tokenizer):
    assert train_rows.tokenizer().fingerprint == tokenizer.fingerprint
    assert train_rows.manifest.tokenizer.fingerprint == tokenizer.fingerprint


def test_an_unknown_split_is_refused(dataset_folder):
    with pytest.raises(UserError, match="it has train, validation"):
        open_dataset(dataset_folder, "test")


def test_a_folder_without_manifest_is_no_dataset(tmp_path):
    with pytest.raises(UserError, match="no prepared dataset"):
        open_dataset(tmp_path, "train")


def test_a_cut_or_missing_shard_is_named_before_anything_is_read(copied_folder):
    shard = first_shard(copied_folder)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{shard.name} has \d+ bytes"):
        open_dataset(copied_folder, "train")
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} has 0 bytes"):
        open_dataset(copied_folder, "train")


def test_a_flipped_bit_never_becomes_another_token(copied_folder):
    expected = open_dataset(copied_folder, "train").read(np.arange(100))
    shard = first_shard(copied_folder)
    intact = shard.read_bytes()
    noticed = 0
    for position in range(0, len(intact), len(intact) // 60):
        damaged = bytearray(intact)
        damaged[position] ^= 4
        shard.write_bytes(damaged)
        try:
            rows = open_dataset(copied_folder, "train").read(np.arange(100))
        except UserError as error:
            assert shard.name in str(error) and "--overwrite" in str(error)
            noticed += 1
        else:  # A byte that is padding of the file.
            np.testing.assert_array_equal(rows, expected)
    assert noticed > 2


def test_the_fingerprint_depends_on_the_rows(dataset_folder, copied_folder):
    dataset = open_dataset(dataset_folder, "train")
    assert dataset.fingerprint == open_dataset(copied_folder, "validation").fingerprint
    dataset.manifest.splits["train"].shards[0].sha256 = "0"
    assert dataset.fingerprint != dataset.manifest.fingerprint


def test_a_place_that_cannot_be_written_is_the_machines_fault(tmp_path):
    writer = ShardWriter(tmp_path / "missing", "train", dtype="uint16", rows_per_shard=20)
    with pytest.raises(MachineError, match="cannot be written") as raised:
        writer.write(np.zeros((1, 8), int))
    assert raised.value.exit_code == 1


def test_more_shards_than_a_process_may_open_at_first(corpus_folder, tokenizer_folder, tmp_path):
    prepare(
        inputs=[str(corpus_folder)],
        tokenizer_folder=tokenizer_folder,
        output=tmp_path / "out",
        settings=PrepareSettings(sequence_length=32, validation_fraction=0, rows_per_shard=3),
    )
    code = (
        "import resource, sys, numpy as np;"
        "from roberta_jax.data.records import open_dataset;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard));"
        "dataset = open_dataset(sys.argv[1], 'train');"
        "assert len(dataset.manifest.splits['train'].shards) > 40;"
        "assert len(dataset.read(np.arange(len(dataset)))) == len(dataset)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=True)
