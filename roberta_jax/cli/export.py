"""Makes a folder of a checkpoint that Hugging Face transformers opens, with a model card.

roberta-jax export --workdir=runs/small --output=my-roberta
roberta-jax export --workdir=runs/glue/sst2 --output=my-sst2
python -c 'from transformers import pipeline; print(pipeline("fill-mask", "my-roberta")("<mask>."))'

The run may have been on any number of devices. The weights are written as safetensors. A model of
`roberta-jax finetune` becomes one of transformers' classes for tasks.
"""

from typing import Any

from absl import flags as absl_flags

from roberta_jax.errors import UserError

SUMMARY = "a checkpoint becomes a Hugging Face folder"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_string(
        "workdir", "", "Folder of the run, or of a fine-tuned model.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "step", -1, "Which checkpoint; -1 is the newest.", lower_bound=-1, flag_values=flags
    )
    absl_flags.DEFINE_string("output", "", "Folder to write.", flag_values=flags)
    absl_flags.DEFINE_enum(
        "dtype",
        "float32",
        ["float32", "bfloat16"],
        "Type of the stored weights.",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool("overwrite", False, "Replace an earlier export.", flag_values=flags)


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(f"export takes no positional arguments, got {arguments}.")
    if not flags.workdir:
        raise UserError("--workdir is missing: the folder of a `roberta-jax pretrain` run.")
    if not flags.output:
        raise UserError("--output is missing: the folder that is written.")
    from roberta_jax.data.output_folder import local_path
    from roberta_jax.finetune.export import export_task_model
    from roberta_jax.finetune.model_folder import find_task_model
    from roberta_jax.interop.export_model import export_model

    options = {"dtype": flags.dtype, "overwrite": flags.overwrite}
    finetuned = find_task_model(local_path(flags.workdir))
    if finetuned is None:
        export_model(flags.workdir, flags.output, step=flags.step, **options)
        return 0
    if flags.step != -1:
        raise UserError(
            f"{flags.workdir} is a fine-tuned model and has no steps; leave --step={flags.step} "
            "out."
        )
    export_task_model(finetuned, flags.output, **options)
    return 0
