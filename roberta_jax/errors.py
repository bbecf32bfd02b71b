"""What a command says when it cannot go on.

A `UserError` is one paragraph for a person: what was given, what is allowed, what to do. The
command line prints it without a traceback and leaves with its `exit_code`; from Python it is an
ordinary `ValueError`.
"""

import errno

# What a full, slow or protected disk answers to a write.
DISK_ERRORS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    }
)

# Exit code after Ctrl-C or SIGTERM, as a shell has it.
INTERRUPTED = 130


class UserError(ValueError):
    """Something that the user can mend: a flag, a config key, an input file. Exit code 2."""

    exit_code = 2


class TruncationWarning(UserWarning):
    """A text is longer than the model allows, and its end was left out."""


class MachineError(UserError):
    """Something that the machine refused: a full disk, say. Exit code 1."""

    exit_code = 1
