"""Output folders that are whole or not there: written under another name, then renamed."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator

from roberta_jax.errors import DISK_ERRORS, MachineError, UserError

# In a folder that is not finished, and may be gone on with.
UNFINISHED_NAME = "UNFINISHED.txt"
# What a place answers where no folder can be: there is a file in the way, for example.
_NO_PLACE = {errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR}


def local_path(name: str | pathlib.Path) -> pathlib.Path:
    """The path of a folder of ours; raises UserError when it is not on this machine's disks."""
    if "://" in str(name):
        raise UserError(
            f"The folder {name} is not local. Datasets and workdirs are read and written on local "
            "disks: use a local folder, and copy it from or to there."
        )
    return pathlib.Path(name).expanduser()


@contextlib.contextmanager
def new_folder(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to write into; becomes `output` when the block ends well, vanishes when it raises.

    What stood at `output` is replaced. Leftovers of killed runs are removed.

    Raises:
      UserError: another process is writing the same output now.
      MachineError: the disk is full, or the place cannot be written.
    """
    if output.is_symlink():
        output = output.resolve()  # What it points to is replaced; the link stays.
    with _explained(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(output)
        partial = pathlib.Path(
            tempfile.mkdtemp(prefix=f"{output.name}.partial-", dir=output.parent)
        )
        # The lock ends with the process, however it ends, and tells leftovers from work in
        # progress.
        lock = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield partial
            partial.chmod(0o777 & ~_umask())  # mkdtemp keeps other users out.
            flush_to_disk(partial)
            _put_in_place(partial, output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


@contextlib.contextmanager
def folder_at_once(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to write into that appears as `folder` when the block ends well, and is on the disk.

    Several processes may make the same one: the first stays.
    """
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    try:
        yield partial
        flush_to_disk(partial)
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _flush_entry(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def kept_folder(
    output: pathlib.Path, worth_keeping: Callable[[pathlib.Path], bool]
) -> Iterator[pathlib.Path]:
    """A folder for work towards `output` that is still there if the block is stopped.

    It vanishes when the block ends well.

    Args:
      output: what is being made.
      worth_keeping: tells of the folder, when the block raises, whether it stays.

    Yields:
      `OUTPUT.unfinished`, empty or as the last block left it, but for `UNFINISHED_NAME`, which says
      what it is.

    Raises:
      UserError: another process is writing the same output now, or there is another folder of that
        name.
      MachineError: the disk is full, or the place cannot be written.
    """
    unfinished = unfinished_folder(output)
    with _explained(output):
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir(exist_ok=True)
        lock = os.open(unfinished, os.O_RDONLY)
        try:
            _lock(lock, output, unfinished)
            mark = unfinished / UNFINISHED_NAME
            if any(unfinished.iterdir()) and not mark.is_file():
                raise UserError(
                    f"{unfinished} is the name of a folder that is needed for a while, and there "
                    "is one already, made by something else. Rename it, or choose another output."
                )
            mark.write_text(
                f"{output.name} was not finished. The command that makes it goes on from here; "
                "without it, this folder may be removed.\n",
                encoding="utf-8",
            )
            complete = False
            try:
                yield unfinished
                complete = True
            finally:
                if complete or not worth_keeping(unfinished):
                    _remove_marked(unfinished)
        finally:
            os.close(lock)


def unfinished_folder(output: pathlib.Path) -> pathlib.Path:
    """Where `kept_folder` keeps what belongs to an output."""
    if output.is_symlink():
        output = output.resolve()
    return output.with_name(f"{output.name}.unfinished")


def remove_unfinished(output: pathlib.Path) -> None:
    """Removes what a run left that was killed after its output was in place."""
    unfinished = unfinished_folder(output)
    if not (unfinished / UNFINISHED_NAME).is_file():
        return
    lock = os.open(unfinished, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_marked(unfinished)
    except BlockingIOError:
        return  # Another process makes the output anew, in there.
    finally:
        os.close(lock)


def _remove_marked(unfinished: pathlib.Path) -> None:
    for path in unfinished.iterdir():
        if path.name != UNFINISHED_NAME:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    shutil.rmtree(unfinished, ignore_errors=True)  # The mark goes last.


def flush_to_disk(folder: pathlib.Path) -> None:
    """Waits until a folder and all that is in it would survive a loss of power."""
    for path in [*folder.rglob("*"), folder]:
        _flush_entry(path)


@contextlib.contextmanager
def _explained(output: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_PLACE:
            raise UserError(
                f"{output} cannot be made: {error.strerror} ({error.filename or output}). Choose "
                "another place."
            ) from error
        if error.errno in DISK_ERRORS:
            raise MachineError(
                f"{output} cannot be written: {error.strerror} ({error.filename or output}). "
                "Free some space or choose another place."
            ) from error
        raise


def _lock(lock: int, output: pathlib.Path, folder: pathlib.Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"Another process is writing {output} now ({folder.name}). Wait for it, or stop it."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove_leftovers(output: pathlib.Path) -> None:
    for leftover in output.parent.glob(f"{_literal(output.name)}.partial-*"):
        lock = os.open(leftover, os.O_RDONLY)
        try:
            _lock(lock, output, leftover)
            shutil.rmtree(leftover)
        finally:
            os.close(lock)
    for replaced in output.parent.glob(f"{_literal(output.name)}.replaced-*"):
        # Killed between the two renames of _put_in_place: the old output is the only one.
        if output.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(output)


def _put_in_place(partial: pathlib.Path, output: pathlib.Path) -> None:
    replaced = output.with_name(f"{output.name}.replaced-{os.getpid()}")
    if output.exists():
        output.rename(replaced)
    partial.rename(output)
    _flush_entry(output.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def _flush_entry(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
