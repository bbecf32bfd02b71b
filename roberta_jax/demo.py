"""The main job in a few minutes: raw text → tokenizer → records → small RoBERTa → predictions.

The text is the embedded corpus: what Python and the installed packages say about themselves. Every
step is the one that its own command runs, and is skipped where its result is there already.
"""

import time
from collections.abc import Callable
from pathlib import Path

from roberta_jax.config import (
    CheckpointConfig,
    DataConfig,
    EncoderConfig,
    OptimizerConfig,
    PretrainConfig,
    ScheduleConfig,
    TrainConfig,
)

SEQUENCE_LENGTH = 64
VOCAB_SIZE = 4_096
SENTENCES = (
    "If the file does not <mask>, an error is raised.",
    "Return the number of <mask> in the array.",
    "The <mask> value is None.",
    "This function returns a list <mask> strings.",
    "The input must be a one-dimensional <mask>.",
)


def demo_config() -> PretrainConfig:
    """The run of the demo, and of configs/pretrain/tiny.py, which explains it."""
    return PretrainConfig(
        data=DataConfig(sequence_length=SEQUENCE_LENGTH),
        encoder=EncoderConfig(
            num_layers=2,
            hidden_size=128,
            num_heads=2,
            mlp_size=512,
            max_positions=SEQUENCE_LENGTH,
            embedding_dropout_rate=0.0,
            dropout_rate=0.0,
            attention_dropout_rate=0.0,
            # With RoBERTa's 0.02, so narrow a model stays near the unigram entropy for hundreds of
            # steps longer: 1,400 steps ended at 5.4 nats instead of 4.2.
            initializer_range=0.06,
            compute_dtype="float32",
        ),
        optimizer=OptimizerConfig(peak_learning_rate=3e-3, clip_global_norm=1.0),
        schedule=ScheduleConfig(warmup="200 steps"),
        train=TrainConfig(
            duration="1000 steps",
            batch_size=64,
            log_every_steps=100,
            evaluate_every_steps=250,
            evaluation_rows=512,
        ),
        checkpoint=CheckpointConfig(save_every_steps=250, keep_last=1),
    )


def run_demo(workdir: str | Path, *, say: Callable[[str], None] = print) -> int:
    """Goes the whole path inside `workdir`.

    Args:
      workdir: receives corpus.txt, tokenizer/, dataset/ and run/.
      say: takes the lines that a person reads.

    Returns:
      The exit code of the training: 0, or 130 after an interrupt with the state saved.
    """
    from roberta_jax.data.embedded import write_embedded_corpus
    from roberta_jax.data.prepare import prepare
    from roberta_jax.data.prepare_settings import PrepareSettings
    from roberta_jax.data.tokenizer_folder import TrainingSettings, train_tokenizer_folder

    folder, started = Path(workdir), time.monotonic()
    corpus, tokenizer, dataset, run = (
        folder / name for name in ("corpus.txt", "tokenizer", "dataset", "run")
    )

    def chapter(number: int, title: str, command: str) -> None:
        say(f"\n[{number}/6] {title}  ({time.monotonic() - started:.0f} s)")
        if command:
            say(f"      $ roberta-jax {command}")

    chapter(1, "Collecting text: the documentation inside Python and the installed packages", "")
    if corpus.exists():
        say(f"{corpus} is there already")
    else:
        write_embedded_corpus(corpus)
        say(f"{corpus.stat().st_size / 1e6:.1f} MB of prose, written to {corpus}")

    chapter(
        2,
        "Training a byte-level BPE tokenizer",
        f"tokenizer --input={corpus} --vocab_size={VOCAB_SIZE} --output={tokenizer}",
    )
    train_tokenizer_folder(
        inputs=[str(corpus)],
        output=tokenizer,
        settings=TrainingSettings(vocab_size=VOCAB_SIZE),
        say=say,
    )

    chapter(
        3,
        "Preparing rows of token ids",
        f"prepare --input={corpus} --tokenizer={tokenizer} --sequence_length={SEQUENCE_LENGTH} "
        f"--validation_fraction=0.02 --output={dataset}",
    )
    manifest = prepare(
        inputs=[str(corpus)],
        tokenizer_folder=tokenizer,
        output=dataset,
        settings=PrepareSettings(sequence_length=SEQUENCE_LENGTH, validation_fraction=0.02),
        say=say,
    )
    entropy = manifest.splits["train"].unigram_entropy_nats

    chapter(
        4,
        "Pretraining a small RoBERTa",
        f"pretrain --config=configs/pretrain/tiny.py --config.data.path={dataset} --workdir={run}",
    )
    say(f"Guessing by word frequency alone has a loss of {entropy:.2f} nats. Watch it fall below.")
    from roberta_jax.train.pretrain import pretrain

    config = demo_config()
    config.data.path = str(dataset)
    code = pretrain(config, run)
    if code:
        return code
    evaluation_and_predictions(run, entropy, chapter, say)
    from roberta_jax.report.page import default_output, write_report

    chapter(6, "Drawing the run", f"report --workdir={run}")
    page = write_report([run], default_output([run]))
    say(f"{page} has the plots; open it in a browser.\n")
    say(f"Done in {time.monotonic() - started:.0f} s. The same commands work on your own text.")
    return 0


def evaluation_and_predictions(
    run: Path, entropy: float, chapter: Callable[[int, str, str], None], say: Callable[[str], None]
) -> None:
    """Says how good the model is, in numbers and in words."""
    from roberta_jax.inference.evaluate import evaluate_model
    from roberta_jax.inference.model import load

    chapter(5, "Asking the model", f"fill-mask --workdir={run} '{SENTENCES[0]}'")
    _, evaluation = evaluate_model(run)
    say(
        f"Held-out text: loss {evaluation.loss_nats:.2f} nats (word frequency alone: "
        f"{entropy:.2f}), {evaluation.masked_accuracy:.0%} of the masked tokens guessed right.\n"
    )
    model = load(run)
    for sentence in SENTENCES:
        (candidates,) = model.fill_mask(sentence, top_k=5)
        guesses = ", ".join(
            f"{guess.token.strip()} {guess.probability:.0%}" for guess in candidates
        )
        say(f"  {sentence}\n      {guesses}")
