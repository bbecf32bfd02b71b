"""A tiny dataset, a tiny model and what its runs leave behind, for the tests of whole runs."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from roberta_jax import config as c
from roberta_jax.checkpoint.store import CheckpointStore
from roberta_jax.data.byte_bpe import train_byte_bpe
from roberta_jax.data.prepare import prepare
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.optim.optimizer import make_optimizer
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.parallel.tables import abstract
from roberta_jax.train import pretrain as pretrain_module
from roberta_jax.train.state import init_state

WORDS = (
    *("the", "a", "small", "old", "river", "house", "wind", "carried", "over", "under", "stone"),
    *("bridge", "and", "then", "slowly", "came", "back", "to", "me", "while", "nobody", "in"),
    *("that", "village", "knew", "why", "rain", "never", "fell", "on", "Monday", "market"),
)
VOCAB_SIZE = 300
SEQUENCE_LENGTH = 32

# Keys of metrics lines that a clock decides.
TIMING_KEYS = ("seconds", "tokens_per_second", "peak_share")


def make_text(*, seed=0, num_documents=60):
    """Documents of made-up sentences, a blank line between them."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    documents = []
    for _ in range(num_documents):
        sentences = [
            " ".join(generator.choice(WORDS, size=int(generator.integers(3, 16)))).capitalize()
            for _ in range(int(generator.integers(2, 12)))
        ]
        documents.append(".\n".join(sentences) + ".")
    return "\n\n".join(documents) + "\n"


def make_dataset(
    folder,
    *,
    seed=0,
    vocab_size=VOCAB_SIZE,
    sequence_length=SEQUENCE_LENGTH,
    validation=0.1,
    format="full_sentences",
):
    """Writes text, tokenizer and dataset under `folder`; returns the dataset's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = make_text(seed=seed)
    (folder / "text.txt").write_text(text)
    train_byte_bpe([text], vocab_size).save(folder / "tokenizer")
    prepare(
        inputs=[str(folder / "text.txt")],
        tokenizer_folder=folder / "tokenizer",
        output=folder / "dataset",
        settings=PrepareSettings(
            format=format,
            sequence_length=sequence_length,
            validation_fraction=validation,
            rows_per_shard=100,
        ),
        say=lambda line: None,
    )
    return folder / "dataset"


def tiny_config(data="", **changes):
    """A run of a few seconds; `changes` are section__field=value."""
    config = c.PretrainConfig(
        seed=3,
        data=c.DataConfig(path=str(data), sequence_length=SEQUENCE_LENGTH),
        encoder=c.EncoderConfig(
            vocab_padding_multiple=8,
            num_layers=2,
            hidden_size=16,
            num_heads=2,
            mlp_size=32,
            max_positions=SEQUENCE_LENGTH,
            compute_dtype="float32",
        ),
        optimizer=c.OptimizerConfig(peak_learning_rate=1e-3),
        schedule=c.ScheduleConfig(warmup="4 steps"),
        train=c.TrainConfig(
            duration="20 steps",
            batch_size=16,
            log_every_steps=3,
            evaluate_every_steps=5,
            evaluation_rows=16,
        ),
        checkpoint=c.CheckpointConfig(save_every_steps=5, keep_last=100, keep_best=1),
    )
    for path, value in changes.items():
        section, _, field = path.rpartition("__")
        setattr(getattr(config, section) if section else config, field, value)
    return config


def lines_of(workdir):
    """The metrics of a workdir without what a clock decides; every line must be strict JSON.

    What happened to the run (`events_of`) is left out.
    """
    return [
        {name: value for name, value in entry.items() if name not in TIMING_KEYS}
        for entry in _entries(workdir)
        if "message" not in entry
    ]


def events_of(workdir):
    """(step, event, message) of what happened to a run."""
    return [
        (entry["step"], entry["event"], entry["message"])
        for entry in _entries(workdir)
        if "message" in entry
    ]


def _entries(workdir):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def restored(workdir, step, config, mesh=None):
    """(state as {path: array}, record) of a checkpoint, verified."""
    mesh = mesh or make_mesh(c.MeshConfig())
    optimizer = make_optimizer(config.optimizer)
    encoder = dataclasses.replace(config.encoder, vocab_size=VOCAB_SIZE)
    resolved = dataclasses.replace(config, encoder=encoder)
    shapes = jax.eval_shape(lambda: init_state(resolved, optimizer))
    with CheckpointStore(Path(workdir) / "checkpoints") as store:
        found = store.restore(step, abstract(shapes, mesh))
    leaves = jax.tree_util.tree_leaves_with_path(found.state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, found.record


def steps_of(workdir):
    return CheckpointStore(Path(workdir) / "checkpoints").steps()


def assert_same_state(left, right):
    """Bit for bit, so that -0.0 is not 0.0."""
    assert left.keys() == right.keys()
    for path in left:
        assert left[path].dtype == right[path].dtype
        assert left[path].tobytes() == right[path].tobytes(), path


class Uncompiled:
    """A step of `Programs` that a test has changed: it runs as it is."""

    def __init__(self, run):
        self._run = run

    def lower(self, *arrays):
        return self

    def compile(self):
        return self._run


def at_step(monkeypatch, number, action):
    """Lets `action` happen while a run computes update `number`."""
    original = pretrain_module.make_programs

    def watched(step):
        def call(state, batch):
            new, metrics = step(state, batch)
            if int(new.step) == number:
                action()
            return new, metrics

        return Uncompiled(call)

    def make_programs(*arguments):
        programs = original(*arguments)
        return dataclasses.replace(programs, steps=tuple(map(watched, programs.steps)))

    monkeypatch.setattr(pretrain_module, "make_programs", make_programs)
    return lambda: monkeypatch.setattr(pretrain_module, "make_programs", original)


def workdir_copy(workdir, target):
    shutil.copytree(workdir, target)
    return target


def damage(workdir, step):
    """Flips a bit in every array file of a checkpoint."""
    files = list((workdir / "checkpoints" / str(step) / "state").glob("**/d/*"))
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(bytes(content))
    assert files


def write_config_file(path, config):
    """A recipe that returns `config`."""
    path.write_text(
        "import json\n"
        "from roberta_jax.config import PretrainConfig, from_dict\n\n\n"
        "def get_config():\n"
        f"    return from_dict(PretrainConfig, json.loads({json.dumps(c.dumps(config))}))\n"
    )
    return path


def remember_programs(folder):
    """Keeps compiled programs in `folder`, so that each is compiled once for all tests."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()


def forget_programs():
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
