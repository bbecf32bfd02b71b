"""Every `roberta-jax` command that a page or a script shows is one that can be given.

Its verb exists, so do its flags and the fields and files of its config. Words that stand for
something (`…`, `...`, `VERB`, `DATASET`) are skipped.
"""

import pathlib
import re
import shlex

import pytest
from absl import flags as absl_flags

from roberta_jax import config as c
from roberta_jax.cli.main import VERBS
from tests.tools.launch.commands import module_of

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for path in (ROOT / "tools" / "launch").rglob("*") if path.is_file()),
]
FIELDS = set(c.field_paths(c.PretrainConfig()))
FINETUNE_FIELDS = set(c.field_paths(c.FinetuneConfig()))
PHASE_FIELDS = {f"phases[].{name}" for name in c.field_paths(c.PhaseConfig())}
HELP = {"help", "version"}


def commands_in(text):
    """What follows `roberta-jax`, in code blocks and between backticks, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", text)
    # A code span may go on in the next line of a paragraph.
    text = re.sub(r"(?<!`)`([^`\n]*)\n([^`\n]*)`(?!`)", r"`\1 \2`", text)
    return re.findall(r"(?:^|[\s`(/])roberta-jax ([a-z][a-z-]*\b[^`|#;&\n]*)", text, re.MULTILINE)


def words_of(command):
    try:
        return shlex.split(command)
    except ValueError:  # Quotes that the sentence around it opened.
        return command.split()


def flags_of(verb):
    module, flags = module_of(verb), absl_flags.FlagValues()
    if getattr(module, "TAKES_CONFIG", False):
        module.define_flags(flags, [verb])
    else:
        module.define_flags(flags)
    names = set(flags) | HELP
    return names | {f"no{name}" for name in names}


def is_field(field, verb):
    """Whether the config of a verb has it."""
    if verb == "finetune":
        return field in FINETUNE_FIELDS
    return field in FIELDS or re.sub(r"\[\d+\]", "[]", field) in PHASE_FIELDS


def missing(config):
    """Whether it is the name of a shipped config, perhaps with an argument, that is not shipped."""
    shipped = re.fullmatch(r"(configs/[\w./-]+\.py)(:\w+)?", config)
    return shipped is not None and not (ROOT / shipped[1]).is_file()


def complaints(command):
    """What is wrong with the words after `roberta-jax`."""
    verb, *rest = words_of(command)
    verb = verb.rstrip(".,:)")
    if verb not in VERBS:
        return [f"{verb} is not a verb"]
    known, found = flags_of(verb), []
    for word in rest:
        if not word.startswith("--") or len(word) == 2:
            continue
        name, _, value = word[2:].rstrip(".,:)").partition("=")
        if name.startswith("config."):
            if not is_field(name.removeprefix("config."), verb):
                found.append(f"--{name} is not a field of the config")
        elif name not in known:
            found.append(f"{verb} has no flag --{name}")
        elif name == "config" and missing(value):
            found.append(f"{value} is not there")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_can_be_given(page):
    wrong = [
        f"roberta-jax {command.strip()}: {complaint}"
        for command in commands_in(page.read_text())
        for complaint in complaints(command)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_commands_are_found():
    count = {page.name: len(commands_in(page.read_text())) for page in PAGES}
    assert count["README.md"] >= 10 and count["launch.md"] >= 8
    assert count["tpu_vm.sh"] >= 1 and count["xpk.sh"] >= 1 and count["slurm.sbatch"] >= 1
    text = (
        "`roberta-jax dryrun --config=a.py\n--topology=cpu:8`\n  roberta-jax pretrain \\\n    --b"
    )
    assert [command.split() for command in commands_in(text)] == [
        ["dryrun", "--config=a.py", "--topology=cpu:8"],
        ["pretrain", "--b"],
    ]


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("pretend --config=configs/pretrain/tiny.py", "pretend is not a verb"),
        ("pretrain --work_dir=x", "pretrain has no flag --work_dir"),
        ("pretrain --config=configs/pretrain/huge.py", "configs/pretrain/huge.py is not there"),
        ("pretrain --config.train.batchsize=1", "--config.train.batchsize is not a field"),
        ("report --num_processes=2", "report has no flag --num_processes"),
        ("finetune --config.train.batch_size=8", "--config.train.batch_size is not a field"),
        ("finetune --config.phases[0].duration=8", "--config.phases[0].duration is not a field"),
        ("pretrain --config.fit.batch_size=8", "--config.fit.batch_size is not a field"),
        ("finetune --config=configs/finetune/cola.py:x", "configs/finetune/cola.py:x is not there"),
        ("finetune --task=sst2 --lr=1", "finetune has no flag --lr"),
    ],
)
def test_a_command_that_cannot_be_given_is_told(command, complaint):
    (found,) = complaints(command)
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    "command",
    [
        "finetune --config=configs/finetune/glue.py:sst2 --config.fit.batch_size=8 --seeds=5",
        "finetune --task=all --init_from=runs/small --data=glue --workdir=runs/glue",
        "pretrain --config.probe.every_steps=500 --config.probe.path=glue",
    ],
)
def test_a_command_that_can_be_given_has_no_complaint(command):
    assert complaints(command) == []
