"""Opens a page on this machine for looking at a model.

One types a sentence with <mask> and sees what could stand there, whom each head attends to, and how
probable every token of the sentence is.

  roberta-jax serve --model=runs/small
  roberta-jax serve --model=roberta-base --port=0 --open

The page is for this machine alone. It has no password: give another --host only where everybody who
reaches it may use the model.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.cli.model_folder import model_folder
from roberta_jax.errors import UserError

SUMMARY = "a web page on this machine for looking at a model"

_LIBRARIES = ("starlette", "uvicorn")


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string(
        "model", "", "Folder of a run, or a Hugging Face or fairseq folder.", flag_values=flags
    )
    absl_flags.DEFINE_string("workdir", "", "The same as --model.", flag_values=flags)
    absl_flags.DEFINE_integer(
        "step", -1, "Which checkpoint; -1 is the newest.", lower_bound=-1, flag_values=flags
    )
    absl_flags.DEFINE_string(
        "host", "127.0.0.1", "Address or name to listen on.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "port",
        8000,
        "Port to listen on; 0 takes any that is free.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=flags,
    )
    absl_flags.DEFINE_bool("open", False, "Show the page in the browser.", flag_values=flags)


def run(flags: Any, arguments: list[str]) -> int:
    """Serves the page until interrupted."""
    if arguments:
        raise UserError(f"serve takes no positional arguments, got {arguments}.")
    folder = model_folder(flags)
    try:
        from roberta_jax.serve.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _LIBRARIES:
            raise
        raise UserError(
            f"The page needs {' and '.join(_LIBRARIES)}, which are not installed: "
            "pip install 'roberta-jax[serve]'"
        ) from error
    serve(folder, host=flags.host, port=flags.port, open_browser=flags.open, step=flags.step)
    return 0
