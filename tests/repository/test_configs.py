"""Every config file can be used and says what was published, and every setting does something."""

import ast
import dataclasses
import functools
import importlib.util
import math
import pathlib
import re

import pytest

from roberta_jax import config as c
from roberta_jax.config.duration import Duration
from roberta_jax.errors import UserError
from roberta_jax.tasks.catalogue import TASKS

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "roberta_jax"
CONFIG_FILES = sorted((ROOT / "configs" / "pretrain").glob("*.py"))
BATCHES = ("256", "2k", "8k")  # The arguments of base_batch.
FINETUNE_FILES = sorted((ROOT / "configs" / "finetune").glob("*.py"))
CARDS = [path.stem for path in CONFIG_FILES] + [f"base_batch:{batch}" for batch in BATCHES]

# What the table of published values holds of every card, in this order of words.
SHAPE = ("num_layers", "hidden_size", "mlp_size", "num_heads")
ADAM = ("beta1", "beta2", "epsilon", "weight_decay", "decay_table", "clip_global_norm")
PHASE = (
    "duration",
    "path",
    "sequence_length",
    "batch_size",
    "num_microbatches",
    "peak_learning_rate",
    "warmup",
)
BASE_SHAPE = (12, 768, 3_072, 12)
LARGE_SHAPE = (24, 1_024, 4_096, 16)
ROBERTA_ADAM = (0.9, 0.98, 1e-6, 0.01, "bert", math.inf)
BERT_ADAM = (0.9, 0.999, 1e-6, 0.01, "bert", 1.0)


def card(
    *,
    shape=BASE_SHAPE,
    duration,
    batch_size,
    length=512,
    rate,
    warmup,
    adam=ROBERTA_ADAM,
    optimizer="adamw",
    schedule="linear",
    dropout=0.1,
    phases=(),
    **others,
):
    """The golden values of a card, by path."""
    values = {
        "train.duration": duration,
        "train.batch_size": batch_size,
        "data.sequence_length": length,
        "optimizer.kind": optimizer,
        "optimizer.peak_learning_rate": rate,
        "schedule.kind": schedule,
        "schedule.warmup": warmup,
        "encoder.embedding_dropout_rate": dropout,
        "encoder.dropout_rate": dropout,
        "encoder.attention_dropout_rate": dropout,
        "encoder.activation_dropout_rate": 0.0,
        "train.num_microbatches": 0,
    }
    values |= {f"encoder.{name}": value for name, value in zip(SHAPE, shape, strict=True)}
    values |= {f"optimizer.{name}": value for name, value in zip(ADAM, adam, strict=True)}
    for number, phase in enumerate(phases):
        values |= {
            f"phases[{number}].{name}": value for name, value in zip(PHASE, phase, strict=True)
        }
    return values | {path.replace("__", "."): value for path, value in others.items()}


BERT_INPUT = {
    "masking__kind": "static",
    "encoder__next_sentence_head": True,
    "encoder__num_token_types": 2,
    "encoder__position_offset": 0,
    "encoder__layer_norm_epsilon": 1e-12,
    "schedule__decay_from": "start",
}
# The paper's tables 3 and 9, fairseq's README, google-research/bert, NVIDIA's pretrain_config.sh,
# and the MiniBERTas' model cards; small and tiny are ours.
PUBLISHED = {
    "base": card(duration="500_000 steps", batch_size=8_192, rate=6e-4, warmup="24_000 steps"),
    "large": card(
        shape=LARGE_SHAPE,
        duration="500_000 steps",
        batch_size=8_192,
        rate=4e-4,
        warmup="30_000 steps",
    ),
    "base_batch:256": card(duration="1_000_000 steps", batch_size=256, rate=1e-4, warmup="4.8%"),
    "base_batch:2k": card(duration="125_000 steps", batch_size=2_048, rate=7e-4, warmup="4.8%"),
    "base_batch:8k": card(duration="31_000 steps", batch_size=8_192, rate=1e-3, warmup="4.8%"),
    **{
        f"fairseq:{name}": card(
            duration=duration,
            batch_size=batch_size,
            rate=rate,
            warmup="8%",  # 10,000 of 125,000.
            adam=(0.9, 0.98, 1e-6, 0.01, "fairseq", math.inf),
            masking__mask_special_tokens=True,
        )
        for name, duration, batch_size, rate in (
            ("256", "1_000_000 steps", 256, 1e-4),
            ("2k", "125_000 steps", 2_048, 5e-4),
            ("8k", "31_000 steps", 8_192, 7e-4),
        )
    },
    "bert_base": card(
        duration="1_000_000 steps",
        batch_size=256,
        rate=1e-4,
        warmup="10_000 steps",
        adam=BERT_ADAM,
        phases=[("90%", "", 128, 0, 0, 0.0, ""), ("10%", "", 512, 0, 0, 0.0, "")],
        optimizer__bias_correction=False,
        masking__num_static_masks=10,
        **BERT_INPUT,
    ),
    "bert_large_lamb": card(
        shape=LARGE_SHAPE,
        duration="",
        batch_size=65_536,
        rate=6e-4,  # Neither this nor the warm-up is used: each phase has its own.
        warmup="24_000 steps",
        adam=BERT_ADAM,
        optimizer="lamb",
        schedule="polynomial",
        phases=[
            ("7038 steps", "", 128, 65_536, 0, 6e-3, "28.43%"),
            ("1563 steps", "", 512, 32_768, 0, 4e-3, "12.8%"),
        ],
        schedule__power=0.5,
        optimizer__bias_correction=True,
        masking__num_static_masks=5,
        **BERT_INPUT,
    ),
    "med_small": card(
        shape=(6, 512, 2_048, 8),
        duration="10_000 steps",
        batch_size=512,
        rate=5e-4,
        warmup="6%",
    ),
    "small": card(
        shape=(4, 256, 1_024, 4),
        duration="4_000 steps",
        batch_size=32,
        length=128,
        rate=1.5e-3,
        warmup="300 steps",
        adam=(0.9, 0.98, 1e-6, 0.01, "bert", 1.0),
        dropout=0.0,
        encoder__compute_dtype="float32",
    ),
    "tiny": card(
        shape=(2, 128, 512, 2),
        duration="1000 steps",
        batch_size=64,
        length=64,
        rate=3e-3,
        warmup="200 steps",
        adam=(0.9, 0.98, 1e-6, 0.01, "bert", 1.0),
        dropout=0.0,
        encoder__compute_dtype="float32",
    ),
}
PUBLISHED["base_batch"] = PUBLISHED["base_batch:256"]
PUBLISHED["fairseq"] = PUBLISHED["fairseq:2k"]


# fairseq's README.glue.md: peak rate, rows, updates, updates of warm-up. Those are ten epochs.
FAIRSEQ_GLUE = {
    "cola": (1e-5, 16, 5_336, 320),
    "mnli": (1e-5, 32, 123_873, 7_432),
    "mrpc": (1e-5, 16, 2_296, 137),
    "qnli": (1e-5, 32, 33_112, 1_986),
    "qqp": (1e-5, 32, 113_272, 28_318),
    "rte": (2e-5, 16, 2_036, 122),
    "sst2": (1e-5, 32, 20_935, 1_256),
    "stsb": (2e-5, 16, 3_598, 214),
}
# The paper's table 10, and BERT's window: rate, batch, decay, epochs, tokens.
PAPER_OTHERS = {
    "squad:squad1": ("squad1", 1.5e-5, 48, 0.01, 2.0, 384),
    "squad:squad2": ("squad2", 1.5e-5, 48, 0.01, 2.0, 384),
    "race": ("race", 1e-5, 16, 0.1, 4.0, 0),
}
GLUE_TASKS = (*FAIRSEQ_GLUE, "wnli")
FINETUNE_CARDS = ["glue", *(f"glue:{task}" for task in GLUE_TASKS), *PAPER_OTHERS]


def load(path):
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_card(name, folder="pretrain"):
    """The module and the config of "stem" or "stem:argument"."""
    stem, *argument = name.split(":")
    module = load(ROOT / "configs" / folder / f"{stem}.py")
    return module, module.get_config(*argument)


def same(value, expected):
    """Whether two values are equal; durations however their digits are grouped."""
    if isinstance(expected, str) and expected and expected[0].isdigit():
        return Duration.parse(value, "x") == Duration.parse(expected, "x")
    return value == expected


def lengths_in_steps(config):
    """(steps, rows, tokens) of every phase, of a run that is given in steps."""
    total = Duration.parse(config.train.duration or "0 steps", "train.duration").number
    phases = config.phases or (c.PhaseConfig(duration="100%"),)
    found = []
    for phase in phases:
        length = Duration.parse(phase.duration, "phase")
        found.append(
            (
                round(length.number * (total / 100 if length.unit == "%" else 1)),
                phase.batch_size or config.train.batch_size,
                phase.sequence_length or config.data.sequence_length,
            )
        )
    return found


def settings():
    """(section, field) of every setting; "config" at the top, and "phase" in a phase."""
    return [
        *section_and_field(c.PretrainConfig()),
        ("config", "phases"),
        *(("phase", field.name) for field in dataclasses.fields(c.PhaseConfig)),
    ]


def section_and_field(config):
    return [
        tuple(path.split(".")) if "." in path else ("config", path)
        for path in c.field_paths(config)
    ]


def finetune_settings():
    """Those of sections that pretraining doesn't have; the others are passed on as a whole."""
    own = ("config", "data", "table", "model", "fit")
    return [setting for setting in section_and_field(c.FinetuneConfig()) if setting[0] in own]


def last_name(node):
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def reads(tree):
    """(owner, field) of every attribute that is read: `config.train.batch_size` is (train, …)."""
    return {
        (last_name(node.value), node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def is_read(section, field, found):
    """Whether the field is read of an owner called as its section, or of any config.

    A phase has fields of the names of other sections', so its owner must be called a phase.
    """
    owners = {owner.lower() for owner, name in found if name == field}
    if section == "phase":
        return any("phase" in owner for owner in owners)
    return any(owner == section or "config" in owner for owner in owners)


def config_trees():
    return [ast.parse(path.read_text()) for path in (PACKAGE / "config").glob("*.py")]


def sections_and_methods():
    """(section, method) → what a method of a config class reads, `validate` excepted."""
    classes = {
        node.name: node
        for tree in config_trees()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    names = {("phase", "PhaseConfig")}
    for config in (c.PretrainConfig(), c.FinetuneConfig()):
        names |= {("config", type(config).__name__)} | {
            (field.name, type(section).__name__)
            for field in dataclasses.fields(config)
            if dataclasses.is_dataclass(section := getattr(config, field.name))
        }
    return {
        (section, method.name): {
            (section if owner == "self" else owner, field) for owner, field in reads(method)
        }
        for section, name in names
        for method in classes[name].body
        if isinstance(method, ast.FunctionDef) and method.name != "validate"
    }


@functools.cache
def reads_of(folder):
    """What a folder reads of a config: to obey it, neither to check it nor to explain it."""
    found = set()
    for path in folder.rglob("*.py"):
        if PACKAGE / "config" not in path.parents and path != PACKAGE / "train" / "explain.py":
            found |= reads(ast.parse(path.read_text()))
    methods = sections_and_methods()
    # A method that is called reads for its caller, and so does one that it calls.
    while called := [key for key in methods if is_read(*key, found)]:
        for key in called:
            found |= methods.pop(key)
    return found


def test_there_is_a_config_of_every_size():
    assert {path.stem for path in CONFIG_FILES} >= {"tiny", "small", "med_small", "base", "large"}


@pytest.mark.parametrize("name", CARDS)
def test_config_loads_validates_and_survives_a_round_trip(name):
    _, config = load_card(name)
    config.validate()
    assert c.from_dict(c.PretrainConfig, c.to_dict(config)) == config


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_a_config_is_a_recipe_card(path):
    text = load(path).__doc__
    for heading in ("Command", "Hardware", "Source"):
        assert f"\n{heading} " in text
    assert f"--config=configs/pretrain/{path.name}" in text
    assert "Not measured" in text or "README.md" in text


@pytest.mark.parametrize("name", CARDS)
def test_a_card_has_the_published_values(name):
    values = c.field_paths(load_card(name)[1])
    expected = PUBLISHED[name]
    wrong = {
        path: (values.get(path), value)
        for path, value in expected.items()
        if path not in values or not same(values[path], value)
    }
    assert not wrong, "(on the card, published)"
    assert {path for path in values if path.startswith("phases")} <= set(expected)


@pytest.mark.parametrize("name", CARDS)
def test_the_arithmetic_of_a_card_is_that_of_its_config(name):
    module, config = load_card(name)
    written = re.findall(
        r"([\d,]+) steps\s+x\s+([\d,]+) rows\s+x\s+([\d,]+)\s+tokens\s+=\s+([\d.]+)([MBT]) tokens",
        pathlib.Path(module.__file__).read_text(),
    )
    totals = {
        tuple(int(number.replace(",", "")) for number in numbers): (total, unit)
        for *numbers, total, unit in written
    }
    for steps, rows, tokens in lengths_in_steps(config):
        total, unit = totals[steps, rows, tokens]
        exact = steps * rows * tokens / {"M": 1e6, "B": 1e9, "T": 1e12}[unit]
        assert f"{exact:.{len(total.partition('.')[2])}f}" == total


@pytest.mark.parametrize("batch", ["512", "", "2K", "8192"])
def test_a_batch_that_the_paper_does_not_have_is_refused_with_those_that_it_has(batch):
    with pytest.raises(UserError, match=f"'{batch}'.* 256, 2k, 8k") as caught:
        load_card(f"base_batch:{batch}")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# ---- Fine-tuning --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FINETUNE_CARDS)
def test_a_fine_tuning_config_loads_validates_and_survives_a_round_trip(name):
    _, config = load_card(name, "finetune")
    config.validate()
    assert c.from_dict(c.FinetuneConfig, c.to_dict(config)) == config
    # Adam, the decay and the schedule are the same everywhere (paper, section 3.1 and table 10).
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.98, 1e-6)
    assert (optimizer.kind, optimizer.clip_global_norm) == ("adamw", math.inf)
    assert (schedule.kind, schedule.final_share) == ("linear", 0.0)
    model = config.model
    assert not model.random_weights
    assert {
        model.embedding_dropout_rate,
        model.dropout_rate,
        model.attention_dropout_rate,
    } == {0.1}
    # fairseq's classifiers drop nothing (`--pooler-dropout`); the one of SQuAD is ours.
    assert model.head_dropout_rate == (0.1 if name.startswith("squad") else 0.0)
    assert optimizer.decay_table == "fairseq"


def test_every_published_task_has_a_card():
    assert {path.stem for path in FINETUNE_FILES} == {
        name.partition(":")[0] for name in FINETUNE_CARDS
    }
    found = {load_card(name, "finetune")[1].task for name in FINETUNE_CARDS}
    assert found == {*TASKS, "all"}


@pytest.mark.parametrize("path", FINETUNE_FILES, ids=lambda path: path.stem)
def test_a_fine_tuning_config_is_a_recipe_card(path):
    text = load(path).__doc__
    for heading in ("Command", "Hardware", "Result", "Source"):
        assert f"\n{heading} " in text
    assert f"--config=configs/finetune/{path.name}" in text
    assert "published" in text and "not measured here" in text


@pytest.mark.parametrize("task", FAIRSEQ_GLUE)
def test_a_task_of_glue_has_fairseq_s_settings(task):
    rate, batch_size, updates, warmup = FAIRSEQ_GLUE[task]
    _, config = load_card(f"glue:{task}", "finetune")
    assert config.task == task and config.optimizer.weight_decay == 0.1
    assert (config.optimizer.peak_learning_rate, config.fit.batch_size) == (rate, batch_size)
    assert config.fit.epochs == 10.0
    assert (config.optimizer.decay_table, config.model.head_dropout_rate) == ("fairseq", 0.0)
    share = Duration.parse(config.schedule.warmup, "warmup")
    assert share.unit == "%" and share.number / 100 == pytest.approx(warmup / updates, rel=0.01)


def test_other_tasks_have_the_settings_of_their_likes():
    _, wnli = load_card("glue:wnli", "finetune")
    _, rte = load_card("glue:rte", "finetune")
    wnli.task = "rte"
    assert wnli == rte
    _, every = load_card("glue", "finetune")
    assert load_card("glue:all", "finetune")[1] == every and every.task == "all"


@pytest.mark.parametrize("name", PAPER_OTHERS)
def test_squad_and_race_have_the_paper_s_settings(name):
    _, config = load_card(name, "finetune")
    assert PAPER_OTHERS[name] == (
        config.task,
        config.optimizer.peak_learning_rate,
        config.fit.batch_size,
        config.optimizer.weight_decay,
        config.fit.epochs,
        config.data.max_length,
    )
    assert config.schedule.warmup == "6%"
    data = config.data
    assert (data.window_stride, data.max_question_tokens, data.max_option_tokens) == (128, 64, 128)


@pytest.mark.parametrize(
    ("name", "there"),
    [("glue:squad1", "all, cola"), ("glue:SST-2", "sst2"), ("squad:squad3", "squad1, squad2")],
)
def test_a_task_that_a_card_does_not_have_is_refused_with_those_that_it_has(name, there):
    with pytest.raises(UserError, match=f"'{name.partition(':')[2]}'.*{there}") as caught:
        load_card(name, "finetune")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# ---- Nothing is set in vain ---------------------------------------------------------------------


@pytest.mark.parametrize(("section", "field"), settings())
def test_every_setting_is_read_somewhere(section, field):
    assert is_read(section, field, reads_of(PACKAGE)), "an option that nothing reads"


@pytest.mark.parametrize(("section", "field"), finetune_settings())
def test_every_setting_of_fine_tuning_is_read_there(section, field):
    found = reads_of(PACKAGE / "finetune")
    # A section is called `settings` where it is an argument.
    read = is_read(section, field, found) or ("settings", field) in found
    assert read, "an option that nothing reads"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(c.ProbeConfig)])
def test_every_setting_of_a_probe_is_read_by_it(field):
    """Or by the loop, which knows when one is due."""
    found = reads(ast.parse((PACKAGE / "finetune" / "probe.py").read_text()))
    loop = reads(ast.parse((PACKAGE / "train" / "loop.py").read_text()))
    assert ("config", field) in found or ("probe", field) in loop


def test_what_only_checks_or_writes_a_setting_does_not_read_it():
    tree = ast.parse("config.train.batch_size = 3\nschedule.power + plan.phase.warmup")
    found = reads(tree)
    assert not is_read("train", "batch_size", found)
    assert is_read("schedule", "power", found) and is_read("phase", "warmup", found)
    assert not is_read("optimizer", "power", found)
    assert not is_read("phase", "power", found)
    assert not any(method == "validate" for _, method in sections_and_methods())
    assert ("data", "sequence_length") in sections_and_methods()["config", "sequence_lengths"]
