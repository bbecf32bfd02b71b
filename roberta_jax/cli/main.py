"""`roberta-jax VERB [flags]`."""

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.config_flag import config_first
from roberta_jax.errors import DISK_ERRORS, INTERRUPTED, MachineError, UserError
from roberta_jax.version import __version__

# In the order in which a newcomer needs them. The module of a verb has `-` as `_`.
VERBS = (
    *("demo", "tokenizer", "prepare", "inspect", "dryrun", "pretrain", "evaluate", "fill-mask"),
    *("finetune", "predict", "serve", "report", "import", "export"),
)
# Verbs that remove what is half written, or end what they started, when they are interrupted.
_CLEANING_VERBS = ("demo", "prepare", "dryrun", "report", "import", "export")


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"roberta_jax.cli.{verb.replace('-', '_')}")


def overview() -> str:
    """What `roberta-jax` alone prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {_module(verb).SUMMARY}" for verb in VERBS]
    return "\n".join(
        [
            f"roberta-jax {__version__}: pretrains RoBERTa encoders from raw text.",
            "",
            "Usage: roberta-jax VERB [--flag=value ...]",
            "",
            *lines,
            "",
            "`roberta-jax VERB --help` explains a verb and lists its flags. Begin with "
            "`roberta-jax demo`.",
        ]
    )


def verb_help(verb: str, module: ModuleType, flags: absl_flags.FlagValues) -> str:
    """What `roberta-jax VERB --help` prints."""
    lines = [
        f"roberta-jax {verb}: {module.SUMMARY}",
        "",
        (module.__doc__ or "").strip(),
        "",
        "Flags:",
    ]
    for name in sorted(flags):
        flag = flags[name]
        if "." in name:  # A field of the config, listed by the verb's own text.
            continue
        default = "" if flag.default in (None, "", []) else f" (default: {flag.default})"
        lines.append(f"  --{name}  {flag.help}{default}")  # absl puts the choices before the help.
    if hasattr(module, "extra_help"):
        lines += ["", module.extra_help()]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs a verb.

    Args:
      arguments: the command line without the program's name.

    Returns:
      0 done, 1 failed, 2 unusable flags or config, 130 interrupted.
    """
    try:
        return _main(list(arguments))
    except UserError as error:
        print(f"roberta-jax: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("roberta-jax: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`| head`): not worth a traceback, and nothing more can be
        # said.
        sys.stdout = None
        return 1
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(
            f"roberta-jax: {error.filename or 'a file'} could not be written: {error.strerror}. "
            "Make room, or choose another folder, and run the same command again.",
            file=sys.stderr,
        )
        return MachineError.exit_code


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise UserError(
            f"{verb!r} is not a verb. There are: {', '.join(VERBS)}. `roberta-jax --help` explains "
            "them."
        )
    module = _module(verb)
    flags = absl_flags.FlagValues()
    if any(argument in ("--help", "-h", "-help") for argument in rest):
        module.define_flags(flags, [verb]) if _wants_arguments(module) else module.define_flags(
            flags
        )
        print(verb_help(verb, module, flags))
        return 0
    if _wants_arguments(module):
        rest = config_first(rest)
        module.define_flags(flags, [verb, *rest])
    else:
        module.define_flags(flags)
    # grain looks at absl's global flags when it starts workers.
    absl_flags.FLAGS.mark_as_parsed()
    try:
        _, *positional = flags([verb, *rest])
    except absl_flags.Error as error:
        raise UserError(
            f"{' '.join(str(error).split()).rstrip('.')} (see `roberta-jax {verb} --help`)."
        ) from error
    return module.run(flags, positional)


def _wants_arguments(module: ModuleType) -> bool:
    # Config overrides are flags that exist only once they are seen on the command line.
    return getattr(module, "TAKES_CONFIG", False)


def entry_point() -> None:
    """The console script."""
    # What can be mended is said by ourselves; orbax would log it with its traceback as well.
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb in VERBS and verb not in _CLEANING_VERBS:
        # Until a run is in its loop, there is nothing to save, and an exception in the middle of
        # loading or compiling makes libraries crash. Later, `train.interrupt` takes the signals.
        signal.signal(signal.SIGINT, _leave)
        signal.signal(signal.SIGTERM, _leave)
        _watch_signals()
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main(sys.argv[1:])
    if code and "jax" in sys.modules:
        _flush()
        # jax, stopped in the midst of its work, may crash at its end, or wait for other processes.
        os._exit(code)
    sys.exit(code)


_leaving = threading.Lock()


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    if not _leaving.acquire(blocking=False):
        return  # The signal reaches the main thread and the watching one: the first ends both.
    os.write(2, b"roberta-jax: interrupted\n")
    try:
        processes: Any = sys.modules.get("roberta_jax.parallel.processes")
        # A module in the midst of its import stands there already, without its functions.
        if hasattr(processes, "interrupted"):
            processes.interrupted()
    finally:
        os._exit(INTERRUPTED)


def _watch_signals() -> None:
    """Calls `_leave` also while the main thread is in a library, which may be for half a minute."""
    arrived, arrives = os.pipe()
    os.set_blocking(arrives, False)
    signal.set_wakeup_fd(arrives, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(arrived, 1):
            if signal.getsignal(number[0]) is _leave:
                _leave(number[0], None)

    threading.Thread(target=watch, daemon=True).start()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # The reader of it may be gone.
            stream.flush()


if __name__ == "__main__":
    entry_point()
