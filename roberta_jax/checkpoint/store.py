"""Checkpoints of one workdir: saved in the background, verified when restored."""

import dataclasses
import gc
import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext

from roberta_jax.checkpoint.fingerprint import fingerprint
from roberta_jax.checkpoint.policy import steps_to_keep
from roberta_jax.config import CheckpointConfig
from roberta_jax.errors import MachineError, UserError

_DAMAGED = "damaged"
_SUPERSEDED = "superseded"

# What orbax writes last into the folder of a step (AtomicityMode.COMMIT_FILE).
COMMIT_MARKER = "commit_success.txt"


class _Preservation:
    """Our policy in the form that orbax asks for."""

    def __init__(self, config: CheckpointConfig):
        self.config = config
        self.evaluation_loss_nats: dict[int, float] = {}

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = steps_to_keep(steps, self.config, self.evaluation_loss_nats)
        return [step in kept for step in steps]


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
    """

    def __init__(self, folder: Path, config: CheckpointConfig | None = None):
        """Opens a folder; without a config it is read only and not created."""
        self.folder = Path(folder).absolute()
        self._preservation = _Preservation(config or CheckpointConfig())
        self._reader = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
        self._manager = None if config is None else self._open()
        self._last_good: int | None = max(self.steps(), default=None)
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
        return sorted(
            int(marker.parent.name)
            for marker in self.folder.glob(f"*/{COMMIT_MARKER}")
            if marker.parent.name.isdecimal()
        )

    def set_aside(self) -> list[str]:
        """Names of checkpoints that were found damaged, now or in an earlier run."""
        return sorted(path.name for path in self.folder.glob(f"*.{_DAMAGED}*"))

    def save(self, step: int, state: Any, record: dict[str, Any]) -> None:
        """Starts writing a checkpoint; the arrays may be donated as soon as this returns.

        Args:
          step: updates applied; must be new.
          state: a tree of arrays.
          record: what JSON can hold; "evaluation_loss_nats" decides which checkpoint is best.

        Raises:
          MachineError: an earlier save failed (a full disk, say).
        """
        assert self._manager is not None, "a store without a config is read only"
        self.check()
        record = {**record, "fingerprint": fingerprint(state)}
        record["checksum"] = _checksum(record)
        self._note_evaluation(step, record)
        with _explained(self._last_good):
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
                ),
            )
        assert saved, f"orbax skips step {step}: it is not later than the ones that are there"

    def check(self) -> None:
        """Raises MachineError if a save in the background has failed."""
        if self._manager is not None:
            with _explained(self._last_good):
                self._manager.check_for_errors()

    def wait(self) -> None:
        """Returns when everything is on disk; raises MachineError if it is not."""
        if self._manager is not None:
            with _explained(self._last_good):
                self._manager.wait_until_finished()
            self._last_good = max(self.steps(), default=None)

    def close(self) -> None:
        """Waits and closes."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
        self._reader.close()

    def read_record(self, step: int) -> dict[str, Any]:
        """What was stored beside the state of a step; UserError if that is damaged."""
        record = dict(self._read(step, record=ocp.args.JsonRestore())["record"])
        if record.pop("checksum", None) != _checksum(record):
            raise self._damaged(step, "its record is not what was saved")
        return record

    def restore(self, step: int, target: Any) -> Restored:
        """The state at `step`, verified.

        Args:
          step: one of `steps()`.
          target: the tree as ShapeDtypeStructs with shardings; any mesh will do.

        Raises:
          UserError: it cannot be read, or the stored bytes are not the saved ones.
        """
        record = self.read_record(step)
        state = self._read(step, state=ocp.args.StandardRestore(target))["state"]
        stored, found = record.get("fingerprint", {}), fingerprint(state)
        wrong = sorted(path for path in stored | found if stored.get(path) != found.get(path))
        if wrong:
            raise self._damaged(
                step,
                f"the contents of {len(wrong)} arrays are not what was saved, the first being "
                f"{wrong[0]}",
            )
        return Restored(step, state, record)

    def restore_newest(self, target: Any, say: Any = print) -> Restored | None:
        """The newest checkpoint that verifies; damaged ones are set aside on the way.

        Args:
          target: as for `restore`.
          say: takes one line for each damaged checkpoint.

        Returns:
          None if there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints, or were, and none is good.
        """
        for step in reversed(self.steps()):
            try:
                return self.restore(step, target)
            except UserError as error:
                say(f"{error} It was set aside as {self._rename(step, _DAMAGED)}.")
        if damaged := self.set_aside():
            raise UserError(
                f"No checkpoint in {self.folder} can be restored: {', '.join(damaged)}. This is "
                "not a fresh start, so nothing was changed. Look at those folders, or begin again "
                "in another --workdir."
            )
        return None

    def supersede_after(self, step: int) -> list[str]:
        """Sets aside every checkpoint later than `step`; returns their new names."""
        return [self._rename(later, _SUPERSEDED) for later in self.steps() if later > step]

    def _rename(self, step: int, reason: str) -> str:
        source, number = self.folder / str(step), 0
        target = self.folder / f"{step}.{reason}"
        while target.exists():
            number += 1
            target = self.folder / f"{step}.{reason}-{number}"
        source.rename(target)
        if self._manager is not None:
            self._manager.reload()
        self._last_good = max(self.steps(), default=None)
        return target.name

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._reader.restore(self.folder / str(step), args=ocp.args.Composite(**items))
        except jax.errors.JaxRuntimeError:
            raise  # A device without memory, say: the checkpoint is not to blame.
        # Damage surfaces as anything: orbax raises bare Exception, KeyError, JSONDecodeError.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
        _collect_quietly()
        raise self._damaged(step, reason)

    def _damaged(self, step: int, reason: str) -> UserError:
        return UserError(f"Checkpoint {self.folder / str(step)} is damaged: {reason}.")

    def _try_record(self, step: int) -> dict[str, Any]:
        try:
            return self.read_record(step)
        except UserError:  # `restore_newest` will meet it again and say so.
            return {}

    def _note_evaluation(self, step: int, record: dict[str, Any]) -> None:
        if "evaluation_loss_nats" in record:
            self._preservation.evaluation_loss_nats[step] = record["evaluation_loss_nats"]


def _collect_quietly() -> None:
    """Ends the tasks that a failed read of orbax leaves behind, which would complain later."""
    complain = sys.unraisablehook

    def complain_of_others(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            complain(unraisable)

    sys.unraisablehook = lambda unraisable: None
    asyncio_log = logging.getLogger("asyncio")
    silent, asyncio_log.disabled = asyncio_log.disabled, True
    try:
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
    finally:
        asyncio_log.disabled = silent
        # Reads of other arrays may still be under way, and find orbax's event loop closed.
        sys.unraisablehook = complain_of_others


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


class _explained:
    """Turns what orbax raises when it cannot write into one paragraph."""

    def __init__(self, last_good: int | None):
        self._last_good = last_good

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        # tensorstore reports a full disk as ValueError OUT_OF_RANGE or RESOURCE_EXHAUSTED.
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, UserError):
            kept = "none yet" if self._last_good is None else f"step {self._last_good}"
            raise MachineError(
                f"A checkpoint could not be written: {' '.join(str(error).split())[:300]}. Is the "
                f"disk full? The last good checkpoint is {kept}. Make room and run the same "
                "command again; it goes on from there."
            ) from error
