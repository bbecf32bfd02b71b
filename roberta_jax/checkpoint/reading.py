"""Reads of arrays that leave nothing behind when they fail or are interrupted."""

import asyncio
import concurrent.futures
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class _ArrayHandler(ocp.type_handlers.ArrayHandler):
    """Where one array cannot be read, waits for the others before it says so.

    orbax gives up at once and closes its event loop, while threads of tensorstore still read the
    other arrays. What those report to a closed loop is noise at best, and at worst the end of the
    process.
    """

    async def deserialize(
        self, infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> Sequence[jax.Array]:
        earlier = asyncio.all_tasks()
        try:
            return await super().deserialize(infos, args)
        except Exception:
            if under_way := asyncio.all_tasks() - earlier:
                await asyncio.wait(under_way)
            raise


class StateReader:
    """Reads trees of arrays, each process for itself."""

    def __init__(self, options: ocp.options.MultiprocessingOptions):
        """Opens; `options` say that other processes are not waited for."""
        registry = ocp.type_handlers.create_type_handler_registry((jax.Array, _ArrayHandler()))
        handler = ocp.PyTreeCheckpointHandler(
            type_handler_registry=registry, multiprocessing_options=options
        )
        self._checkpointer = ocp.Checkpointer(handler, multiprocessing_options=options)

    def read(self, folder: Path, target: Any) -> Any:
        """The arrays of `target` from a folder that may hold more; Ctrl-C waits for the read.

        Args:
          folder: of the state.
          target: a tree of ShapeDtypeStructs with shardings.
        """
        arguments = ocp.args.PyTreeRestore(
            item=target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        )
        # Ctrl-C reaches the main thread only. Inside of orbax it would close the event loop under
        # the readers, or come out as an array that cannot be read.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(self._checkpointer.restore, folder, args=arguments).result()

    def close(self) -> None:
        """Closes."""
        self._checkpointer.close()
