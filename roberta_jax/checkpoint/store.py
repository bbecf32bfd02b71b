"""Checkpoints of one workdir: saved in the background, verified when restored."""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext

from roberta_jax.checkpoint.fingerprint import fingerprint
from roberta_jax.checkpoint.policy import steps_to_keep
from roberta_jax.checkpoint.reading import StateReader
from roberta_jax.config import CheckpointConfig
from roberta_jax.errors import MachineError, UserError
from roberta_jax.parallel.processes import all_or_none, from_first

_DAMAGED = "damaged"
_SUPERSEDED = "superseded"

# What a machine refuses says nothing about the checkpoint.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
_REFUSAL_WORDS = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED")
_FULL_DISK_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")

# What orbax writes last into the folder of a step (AtomicityMode.COMMIT_FILE).
COMMIT_MARKER = "commit_success.txt"


class _Preservation:
    """Our policy in the form that orbax asks for."""

    def __init__(self, config: CheckpointConfig):
        self.config = config
        # Step → on which rows, and the loss there.
        self.evaluations: dict[int, tuple[str, float]] = {}

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        # Losses on other rows, those of an earlier phase, are no measure for the newest.
        newest = max(self.evaluations, default=None)
        on = "" if newest is None else self.evaluations[newest][0]
        losses = {step: loss for step, (rows, loss) in self.evaluations.items() if rows == on}
        kept = steps_to_keep(steps, self.config, losses)
        return [step in kept for step in steps]


class DamagedCheckpointError(UserError):
    """What is stored is not what was saved."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A verified checkpoint."""

    step: int
    state: Any  # The tree, placed as the target said.
    record: dict[str, Any]  # What was stored beside it.


class CheckpointStore:
    """The checkpoints of a workdir; close it, or use it in a `with` block.

    A step is a folder named by its number. One that turns out damaged is renamed to
    `N.damaged` and said; one that a restart from an earlier step leaves behind, to
    `N.superseded`. Nothing is deleted but what the policy lets go, and what a kill left unfinished.

    In a run of several processes, all of them make the same calls, on one folder that all see. Each
    writes and reads its part of the arrays; damage that one meets is damage for all.
    """

    def __init__(self, folder: Path, config: CheckpointConfig | None = None):
        """Opens a folder; without a config it is read only and not created."""
        self.folder = Path(folder).absolute()
        self._preservation = _Preservation(config or CheckpointConfig())
        # Reading waits for no other process: `all_or_none` does, and knows of failures.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(), active_processes={jax.process_index()}
        )
        self._state_reader = StateReader(alone)
        self._record_reader = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(), multiprocessing_options=alone
        )
        self._manager = None if config is None else self._open()
        for step in self.steps() if self._manager else ():
            self._note_evaluation(step, self._try_record(step))

    def _open(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                create=True,
                preservation_policy=self._preservation,
                # A folder without its commit marker is not a checkpoint (the default mode
                # takes even an empty folder for one).
                atomicity_options=ocp.options.AtomicityOptions(
                    mode=ocp.options.AtomicityMode.COMMIT_FILE
                ),
                cleanup_tmp_directories=True,
                # What the others see of a shared folder may be older.
                single_host_load_and_broadcast=True,
            ),
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "record": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> "CheckpointStore":
        """The store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes."""
        self.close()

    def steps(self) -> list[int]:
        """Complete checkpoints, oldest first."""
        return self._agreed(self._steps_seen)

    def _steps_seen(self) -> list[int]:
        return sorted(
            int(marker.parent.name)
            for marker in self.folder.glob(f"*/{COMMIT_MARKER}")
            if marker.parent.name.isdecimal()
        )

    def set_aside(self) -> list[str]:
        """Names of checkpoints that were found damaged, now or in an earlier run."""
        return self._agreed(
            lambda: sorted(path.name for path in self.folder.glob(f"*.{_DAMAGED}*"))
        )

    def _agreed(self, look: Callable[[], list[Any]]) -> list[Any]:
        """What the first process sees in the folder: what the others see may be older."""
        return look() if self._manager is None else from_first("checkpoints", look)

    def save(self, step: int, state: Any, record: dict[str, Any]) -> None:
        """Starts writing a checkpoint; the arrays may be donated as soon as this returns.

        Args:
          step: updates applied; must be new.
          state: a tree of arrays.
          record: what JSON can hold; "evaluation_loss_nats" decides which checkpoint is best, among
            those of the same "evaluated_on".

        Raises:
          MachineError: an earlier save failed (a full disk, say).
        """
        assert self._manager is not None, "a store without a config is read only"
        self.check()
        record = {**record, "arrays": _layout(state), "fingerprint": fingerprint(state)}
        record["checksum"] = _checksum(record)
        self._note_evaluation(step, record)
        with self._explained():
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
                ),
            )
        assert saved, f"orbax skips step {step}: it is not later than the ones that are there"

    def check(self) -> None:
        """Raises MachineError if a save in the background has failed; waits for nothing."""
        # orbax's own check_for_errors is silent about what its finalizing thread has met.
        if self._manager is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Returns when everything is on disk; raises MachineError if it is not."""
        if self._manager is not None:
            with self._explained():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and closes."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
        self._state_reader.close()
        self._record_reader.close()

    def read_record(self, step: int) -> dict[str, Any]:
        """What was stored beside the state of a step.

        Raises:
          DamagedCheckpointError: it is not what was saved.
        """
        return all_or_none("record", lambda: self._read_record(step))

    def _read_record(self, step: int) -> dict[str, Any]:
        arguments = ocp.args.Composite(record=ocp.args.JsonRestore())
        read = functools.partial(
            self._record_reader.restore, self.folder / str(step), args=arguments
        )
        record = dict(self._explain_read(step, read)["record"])
        if record.pop("checksum", None) != _checksum(record):
            raise self._damaged(step, "its record is not what was saved")
        return record

    def restore(self, step: int, target: Any) -> Restored:
        """The state at `step`, verified.

        Args:
          step: one of `steps()`.
          target: the tree as ShapeDtypeStructs with shardings; any mesh will do.

        Raises:
          DamagedCheckpointError: the stored bytes are not the saved ones, or cannot be read.
          MachineError: this machine refuses to read them; nothing is wrong with them.
          UserError: the tree has other arrays than `target`.
        """
        record = self.read_record(step)
        self._check_layout(step, record["arrays"], _layout(target))
        return self._restored(step, target, record, record["fingerprint"])

    def restore_part(self, step: int, target: dict[str, Any]) -> Restored:
        """Some of the top-level fields of the state at `step`, verified; the others are not read.

        Args:
          step: one of `steps()`.
          target: field → tree of ShapeDtypeStructs with shardings.

        Raises:
          As `restore`.
        """
        record = self.read_record(step)
        inside = tuple(f"{field}/" for field in target)
        arrays, contents = (
            {path: value for path, value in record[name].items() if path.startswith(inside)}
            for name in ("arrays", "fingerprint")
        )
        self._check_layout(step, arrays, _layout(target))
        return self._restored(step, target, record, contents)

    def _restored(
        self, step: int, target: Any, record: dict[str, Any], contents: dict[str, str]
    ) -> Restored:
        folder = self.folder / str(step) / "state"
        read = functools.partial(self._state_reader.read, folder, target)
        state = all_or_none("state", lambda: self._explain_read(step, read))
        self._check_contents(step, contents, state)
        return Restored(step, state, record)

    def _check_layout(self, step: int, stored: dict[str, str], wanted: dict[str, str]) -> None:
        different = sorted(path for path in stored | wanted if stored.get(path) != wanted.get(path))
        if different:
            first = different[0]
            raise UserError(
                f"Checkpoint {self.folder / str(step)} holds other arrays than this run: "
                f"{len(different)} differ, the first being {first}, which is "
                f"{stored.get(first, 'missing')} there and {wanted.get(first, 'missing')} here. "
                "Use the config, and the version of roberta_jax, that it was made with."
            )

    def _check_contents(self, step: int, stored: dict[str, str], state: Any) -> None:
        found = fingerprint(state)
        wrong = sorted(path for path in stored | found if stored.get(path) != found.get(path))
        if wrong:
            raise self._damaged(
                step,
                f"the contents of {len(wrong)} arrays are not what was saved, the first being "
                f"{wrong[0]}",
            )

    def restore_newest(self, target: Any, say: Callable[[str], None] = print) -> Restored | None:
        """The newest checkpoint that verifies; newer ones, which are damaged, are set aside.

        Args:
          target: as for `restore`.
          say: takes one line for each damaged checkpoint.

        Returns:
          None if there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints, or were, and none is good; nothing was changed.
        """
        damaged: list[tuple[int, DamagedCheckpointError]] = []
        for step in reversed(self.steps()):
            try:
                restored = self.restore(step, target)
            except DamagedCheckpointError as error:
                damaged.append((step, error))
                continue
            for bad, reason in damaged:
                say(f"{reason} It was set aside as {self._rename(bad, _DAMAGED)}.")
            return restored
        bad_ones = [str(step) for step, _ in damaged] + self.set_aside()
        if bad_ones:
            first = f" {damaged[0][1]}" if damaged else ""
            raise UserError(
                f"No checkpoint in {self.folder} can be restored: {', '.join(bad_ones)}.{first} "
                "This is not a fresh start, so nothing was changed. Look at those folders, or "
                "begin again in another --workdir."
            )
        return None

    def supersede_after(self, step: int) -> list[str]:
        """Sets aside every checkpoint later than `step`; returns their new names."""
        return [self._rename(later, _SUPERSEDED) for later in self.steps() if later > step]

    def _rename(self, step: int, reason: str) -> str:
        name = from_first("rename", lambda: self._renamed(step, reason))
        self._preservation.evaluations.pop(step, None)
        if self._manager is not None:
            self._manager.reload()
        return name

    def _renamed(self, step: int, reason: str) -> str:
        source, number = self.folder / str(step), 0
        target = self.folder / f"{step}.{reason}"
        while target.exists():
            number += 1
            target = self.folder / f"{step}.{reason}-{number}"
        source.rename(target)
        return target.name

    def _explain_read(self, step: int, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (jax.errors.JaxRuntimeError, MemoryError):
            raise  # Too little memory, say: the checkpoint is not to blame.
        # Damage surfaces as anything: orbax raises bare Exception, KeyError, JSONDecodeError.
        except Exception as error:
            number = error.errno if isinstance(error, OSError) else None
            reason = " ".join(str(error).split())[:200]
        if number in _REFUSALS or any(word in reason for word in _REFUSAL_WORDS):
            raise MachineError(
                f"Checkpoint {self.folder / str(step)} cannot be read: {reason}. It was left as "
                "it is. Mend that, and run the same command again."
            )
        raise self._damaged(step, reason)

    def _damaged(self, step: int, reason: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"Checkpoint {self.folder / str(step)} is damaged: {reason}.")

    def _try_record(self, step: int) -> dict[str, Any]:
        try:
            return self.read_record(step)
        except UserError:  # `restore_newest` will meet it again and say so.
            return {}

    def _note_evaluation(self, step: int, record: dict[str, Any]) -> None:
        evaluations = self._preservation.evaluations
        evaluations.pop(step, None)
        if "evaluation_loss_nats" in record:
            rows = record.get("evaluated_on", "")
            evaluations[step] = (rows, record["evaluation_loss_nats"])

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what orbax raises when it cannot write into one paragraph."""
        try:
            yield
        # tensorstore reports a full disk as ValueError OUT_OF_RANGE or RESOURCE_EXHAUSTED.
        except (OSError, ValueError) as error:
            newest = max(self._steps_seen(), default=None)
            kept = "none yet" if newest is None else f"that of step {newest}"
            text = " ".join(str(error).split())
            # tensorstore's account is long, and names the cause somewhere inside.
            reason = next((words for words in _FULL_DISK_WORDS if words in text), text[:300])
            raise MachineError(
                f"A checkpoint could not be written to {self.folder}: {reason}. Is the disk full? "
                f"The last good checkpoint is {kept}. Make room and run the same command again; "
                "it goes on from there."
            ) from error


def _layout(tree: Any) -> dict[str, str]:
    """Path → type and shape of every array, such as "float32[12,768,3072]"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
