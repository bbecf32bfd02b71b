import errno
import fcntl
import os

import pytest

from roberta_jax.data.output_folder import (
    folder_at_once,
    kept_folder,
    local_path,
    new_folder,
    remove_unfinished,
)
from roberta_jax.errors import MachineError, UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_output_appears_when_the_block_ends(tmp_path):
    output = tmp_path / "deep" / "output"
    with new_folder(output) as partial:
        (partial / "file").write_text("new")
        assert not output.exists()
    assert names(output.parent) == ["output"]
    assert (output / "file").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_remains_of_a_block_that_raises(tmp_path, error):
    with pytest.raises(error), new_folder(tmp_path / "output") as partial:
        (partial / "file").write_text("half")
        raise error
    assert names(tmp_path) == []


def test_an_old_output_is_replaced_as_a_whole(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "old").touch()
    with pytest.raises(RuntimeError), new_folder(output):
        raise RuntimeError
    assert names(output) == ["old"]
    with new_folder(output) as partial:
        (partial / "new").touch()
    assert names(output) == ["new"]
    assert names(tmp_path) == ["output"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / "output[1].partial-123").mkdir()
    (tmp_path / "output[1].partial-123" / "file").touch()
    (tmp_path / "output1.partial-5").mkdir()
    with new_folder(tmp_path / "output[1]"):
        pass
    assert names(tmp_path) == ["output1.partial-5", "output[1]"]


def test_an_output_that_was_being_replaced_is_not_lost(tmp_path):
    (tmp_path / "output.replaced-123").mkdir()
    (tmp_path / "output.replaced-123" / "old").touch()
    with pytest.raises(RuntimeError), new_folder(tmp_path / "output"):
        raise RuntimeError
    assert names(tmp_path / "output") == ["old"]


def test_a_run_that_still_writes_is_left_alone(tmp_path):
    partial = tmp_path / "output.partial-123"
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(UserError, match="Another process is writing"),
            new_folder(tmp_path / "output"),
        ):
            pass
    finally:
        os.close(lock)
    assert names(tmp_path) == ["output.partial-123"]


def test_work_that_is_going_on_is_left_alone(tmp_path):
    output = tmp_path / "out"
    with kept_folder(output, lambda folder: True) as unfinished:
        (unfinished / "part").mkdir()
        remove_unfinished(output)
        assert (unfinished / "part").is_dir()
    assert not unfinished.exists()


def test_the_first_of_two_folders_stays(tmp_path):
    with folder_at_once(tmp_path / "a") as first, folder_at_once(tmp_path / "a") as second:
        (first / "x").write_text("first")
        (second / "x").write_text("second")
    # The inner block ends before.
    assert (tmp_path / "a" / "x").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_the_machines_fault(tmp_path):
    with (
        pytest.raises(MachineError, match="No space left on device") as raised,
        new_folder(tmp_path / "output"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")
    assert raised.value.exit_code == 1
    assert names(tmp_path) == []


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="File exists"),
        new_folder(tmp_path / "file" / "output"),
    ):
        pass


def test_the_work_of_a_process_of_the_same_number_is_not_touched(tmp_path):
    """Two containers on one volume may both have process 1."""
    with new_folder(tmp_path / "output") as partial:
        (partial / "file").touch()
        with (
            pytest.raises(UserError, match="Another process is writing"),
            new_folder(tmp_path / "output"),
        ):
            pass
        assert (partial / "file").exists()
    assert names(tmp_path / "output") == ["file"]


def test_others_may_read_the_output_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        with new_folder(tmp_path / "output"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "output").stat().st_mode & 0o777 == 0o750


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link") as partial:
        (partial / "file").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_the_home_of_the_user_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/run") == tmp_path / "run"
