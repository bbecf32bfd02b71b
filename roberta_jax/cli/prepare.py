"""Turns raw text into a dataset: tokenised, packed into rows, sharded, with a manifest.

roberta-jax prepare --input='books/*.jsonl.gz' --tokenizer=tokenizer --output=dataset

The input is plain text (.txt: a blank line ends a document, every other line is a sentence), JSON
lines (.jsonl, .json: an object is a document, the lines of its text are sentences) or Parquet (a
row is a document), the texts also as .gz, .zst or .xz, or a dataset of tensorflow-datasets that is
on the disk (a record is a document). The output appears when it is complete. A
run that was stopped goes on from the parts that it has finished; one with the same inputs and
settings as the output finds that there is nothing to do.
"""

import shlex
from typing import Any

from absl import flags as absl_flags

from roberta_jax.data.bad_text import BAD_TEXT_RULES
from roberta_jax.data.corpus import PLAIN_TEXT_DOCUMENTS
from roberta_jax.data.formats import FORMATS
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import DEFAULT_VALIDATION_FRACTION, PrepareSettings
from roberta_jax.data.runners import RUNNERS, BeamRunner, LocalRunner, Runner
from roberta_jax.data.sentences import SPLITTERS
from roberta_jax.errors import UserError

SUMMARY = "turn raw text into tokenised, packed, sharded records"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of this verb in `flags`."""
    absl_flags.DEFINE_multi_string(
        "input",
        [],
        "A file, folder, glob or tfds:NAME/CONFIG:SPLIT; may be repeated.",
        flag_values=flags,
    )
    absl_flags.DEFINE_multi_string(
        "validation_input",
        [],
        "Text of the validation split, instead of a share of --input.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "tokenizer", "", "Folder that `roberta-jax tokenizer` wrote.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "format", "full_sentences", FORMATS, "How sentences become rows.", flag_values=flags
    )
    absl_flags.DEFINE_integer("sequence_length", 512, "Tokens per row.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "isolate_documents",
        False,
        "With full_sentences: attention and positions stay inside a document.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "short_sequence_probability",
        0.1,
        "With segment_pair: share of the documents whose pairs are shorter, as BERT has it.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "seed", 0, "What the random choices of the pair formats depend on.", flag_values=flags
    )
    absl_flags.DEFINE_float(
        "validation_fraction",
        None,
        f"Share of the documents for validation, in [0, 0.5]; {DEFAULT_VALIDATION_FRACTION} unless "
        "--validation_input is given.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "text_field",
        "text",
        "Key of the text in JSON lines, column in Parquet, feature in TFDS.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "plain_text_documents",
        "blank_line",
        PLAIN_TEXT_DOCUMENTS,
        "What ends a document of plain text.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "sentence_splitter",
        "line",
        SPLITTERS,
        "line: each line is a sentence; punctuation: lines are cut further after . ! ? by a quick "
        "rule; rules: by those of --language, in any script.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "language", "en", "Code of the language for --sentence_splitter=rules.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "on_bad_text",
        "error",
        BAD_TEXT_RULES,
        "What happens to text that is not UTF-8.",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "drop_duplicates",
        False,
        "Of documents that occur more than once, leave out all but the first; reads the text "
        "twice.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "rows_per_shard", 1 << 20, "Rows per file, at most.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "num_processes",
        0,
        "Processes that work at once, about 300 MB each; 0: one per core. The rows stay the same.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "runner",
        "local",
        RUNNERS,
        "Who works: processes of this machine, or an Apache Beam pipeline. The rows stay the same.",
        flag_values=flags,
    )
    absl_flags.DEFINE_multi_string(
        "beam_options",
        [],
        "With --runner=beam: options of the pipeline, such as --beam_options='--runner=FlinkRunner "
        "--flink_master=host:8081'; may be repeated. Without any, it runs on this machine.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string("output", "", "Folder to write.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "overwrite", False, "Replace an output made from something else.", flag_values=flags
    )


def run(flags: Any, arguments: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    if arguments:
        raise UserError(
            f"prepare takes no positional arguments, got {arguments}; text is given by --input."
        )
    for name, meaning in (
        ("output", "the folder to write"),
        ("tokenizer", "a folder that `roberta-jax tokenizer` wrote"),
    ):
        if not flags[name].value:
            raise UserError(f"--{name} is missing: {meaning}.")
    fraction = flags.validation_fraction
    if fraction is None:
        fraction = 0.0 if flags.validation_input else DEFAULT_VALIDATION_FRACTION
    settings = PrepareSettings(
        format=flags.format,
        sequence_length=flags.sequence_length,
        isolate_documents=flags.isolate_documents,
        short_sequence_probability=flags.short_sequence_probability,
        seed=flags.seed,
        validation_fraction=fraction,
        text_field=flags.text_field,
        plain_text_documents=flags.plain_text_documents,
        sentence_splitter=flags.sentence_splitter,
        language=flags.language,
        on_bad_text=flags.on_bad_text,
        drop_duplicates=flags.drop_duplicates,
        rows_per_shard=flags.rows_per_shard,
    )
    prepare(
        inputs=flags.input,
        tokenizer_folder=flags.tokenizer,
        output=flags.output,
        settings=settings,
        validation_inputs=flags.validation_input,
        overwrite=flags.overwrite,
        runner=_runner(flags),
    )
    return 0


def _runner(flags: Any) -> Runner:
    if flags.runner == "beam":
        if flags.num_processes:
            raise UserError(
                f"--num_processes={flags.num_processes} is of --runner=local; the workers of a "
                "pipeline are set by --beam_options, such as --beam_options=--direct_num_workers=4."
            )
        return BeamRunner(tuple(word for one in flags.beam_options for word in shlex.split(one)))
    if flags.beam_options:
        raise UserError("--beam_options are of --runner=beam, and the runner is local.")
    return LocalRunner(flags.num_processes)
