"""Writes the tables of docs/scaling.md and draws docs/scaling.png; nothing is compiled or measured.

    python tools/scaling.py
    python tools/scaling.py --config=configs/pretrain/base_batch.py:2k    # prints one recipe's rows

The model is roberta_jax/dryrun/scaling.py. A table stands between `<!-- NAME: tools/scaling.py -->`
and `<!-- end -->`; a test compares those of the file with what is computed.
"""

import argparse
import dataclasses
import functools
import pathlib
import re
import runpy

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from roberta_jax.config import PretrainConfig
from roberta_jax.dryrun.chips import CHIPS, GPUS, Chip
from roberta_jax.dryrun.scaling import (
    FAST_PEAK_SHARE,
    Prediction,
    computed_flops,
    most_chips,
    predict,
)
from roberta_jax.report.plots import COLOURS, STYLE
from roberta_jax.train.explain import ASSUMED_VOCAB_SIZE
from roberta_jax.train.plan import Phase, make_plan

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENT, PICTURE = ROOT / "docs" / "scaling.md", ROOT / "docs" / "scaling.png"
ALL_CHIPS = CHIPS | GPUS
SHOWN_CHIPS = ("v5e", "v5p", "v6e", "h100")
SHOWN_NUMBERS = (16, 64, 256, 1024)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A config with its last phase, the only one of most, and its name in the tables."""

    name: str
    config: PretrainConfig
    phase: Phase


def load(name: str, file: str, argument: str = "", **train: object) -> Recipe:
    """A recipe of `configs/pretrain`, with other settings of `train`."""
    module = runpy.run_path(str(ROOT / "configs" / "pretrain" / file))
    config: PretrainConfig = module["get_config"](*([argument] if argument else []))
    for field, value in train.items():
        setattr(config.train, field, value)
    return resolved(name, config)


def resolved(name: str, config: PretrainConfig) -> Recipe:
    config.encoder.vocab_size = config.encoder.vocab_size or ASSUMED_VOCAB_SIZE
    return Recipe(name, config, make_plan(config, lambda path: 1).phases[-1])


@functools.cache
def recipes() -> tuple[Recipe, ...]:
    small = load("small, in bfloat16", "small.py")
    small.config.encoder.compute_dtype = "bfloat16"  # The peaks are those of bfloat16.
    return (
        load("large", "large.py"),
        load("base", "base.py"),
        load("base, 256 rows", "base_batch.py", "256"),
        load("base, 2K rows", "base_batch.py", "2k"),
        # Equal passes: 131.1B tokens, as in base_batch.py.
        load("base, 32K rows", "base_batch.py", "8k", batch_size=32_768, duration="7_812 steps"),
        load("med_small", "med_small.py"),
        small,
    )


def between(low: float, high: float, unit: str = "") -> str:
    """Two ends, as docs/dryrun.md writes them."""
    return f"{digits(low, 3)} to {digits(high, 3)}{unit}"


def digits(value: float, count: int) -> str:
    """So many digits that matter, and all of those before the point."""
    return f"{value:,.0f}" if value >= 10 ** (count - 1) else f"{value:.{count}g}"


def time_of_run(recipe: Recipe, one: Prediction) -> str:
    ends = [recipe.phase.num_steps * seconds for seconds in (one.fastest, one.slowest)]
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if ends[1] >= 2 * size:
            return f"{digits(ends[0] / size, 2)} to {digits(ends[1] / size, 2)} {unit}"
    return f"{digits(ends[0], 2)} to {digits(ends[1], 2)} s"


def limits(of: tuple[Recipe, ...]) -> list[str]:
    """Where each recipe stops scaling."""
    lines = [
        "| recipe | rows | chip | 80% until | 50% until | then it waits for | a host reads |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe in of:
        rows = recipe.phase.batch_size
        most = rows & -rows  # The largest power of two that divides them.
        for name in SHOWN_CHIPS:
            chip = ALL_CHIPS[name]
            ends = [most_chips(recipe.config, recipe.phase, chip, share) for share in (0.8, 0.5)]
            after = min(2 * max(ends[1][0], 1), most)
            ends_of_it = predict(recipe.config, recipe.phase, chip, after).waits_for
            waits = " or ".join(dict.fromkeys(ends_of_it))
            cells = [
                " to ".join(f"{count:,}{'*' if count == most else ''}" for count in end)
                for end in ends
            ]
            lines.append(
                f"| {recipe.name} | {rows:,} | {name} | {cells[0]} | {cells[1]} | {waits} | "
                f"{host_tokens_per_second(recipe, chip) / 1e6:.3g}M |"
            )
    return lines


def host_tokens_per_second(recipe: Recipe, chip: Chip) -> float:
    """What the chips of a host take at the fast end, while they wait for nothing."""
    per_token = computed_flops(recipe.config, recipe.phase) / recipe.phase.tokens_per_step
    return chip.chips_per_host * chip.peak_flops * FAST_PEAK_SHARE / per_token


def times(of: tuple[Recipe, ...]) -> list[str]:
    """A step, the whole run and the share of the peak, by chips."""
    numbers = " | ".join(f"{count:,} chips" for count in SHOWN_NUMBERS)
    lines = [f"| recipe | chip | {numbers} |", "|---|---|" + "---|" * len(SHOWN_NUMBERS)]
    for recipe in of:
        for name in SHOWN_CHIPS:
            cells = []
            for count in SHOWN_NUMBERS:
                if recipe.phase.batch_size % count:
                    cells.append("too few rows")
                    continue
                one = predict(recipe.config, recipe.phase, ALL_CHIPS[name], count)
                slow, fast = one.peak_share
                cells.append(
                    f"{between(one.fastest, one.slowest, ' s')}, {time_of_run(recipe, one)}, "
                    f"{digits(100 * fast, 2)} to {digits(100 * slow, 2)}%"
                )
            lines.append(f"| {recipe.name} | {name} | {' | '.join(cells)} |")
    return lines


# What docs/dryrun.md has of programs compiled with jax 0.10.2 and libtpu 0.0.42.1.
DRY_RUNS = (
    # Recipe, chip, chips, microbatches → FLOPs computed, links, fastest and slowest seconds.
    ("large", "v5e", 256, 2, 1.12e16, 0.0213, 0.222, 0.719),
    ("base", "v5e", 16, 8, 3.32e15, 0.00702, 1.13, 3.27),
)


def comparison() -> list[str]:
    """Model and dry run side by side."""
    lines = [
        "| recipe | chips | | computed, FLOPs | links, s | a step, s |",
        "|---|---|---|---|---|---|",
    ]
    by_name = {recipe.name: recipe for recipe in recipes()}
    for name, chip, count, parts, flops, links, fastest, slowest in DRY_RUNS:
        recipe = by_name[name]
        phase = dataclasses.replace(recipe.phase, num_microbatches=parts)
        one = predict(recipe.config, phase, ALL_CHIPS[chip], count)
        told = ["not told" if value is None else f"{value:.3g}" for value in (flops, links)]
        where = f"| {name} | {count} {chip} |"
        lines.append(f"{where} dry run | {' | '.join(told)} | {between(fastest, slowest)} |")
        lines.append(
            f"{where} model | {computed_flops(recipe.config, phase):.3g} | {one.links:.3g} | "
            f"{between(one.fastest, one.slowest)} |"
        )
    return lines


# NVIDIA DeepLearningExamples, PyTorch/LanguageModeling/BERT/README.md (21.11) and
# PaddlePaddle/LanguageModeling/BERT/README.md (22.12): rows per second of BERT large, 32,768 rows
# of up to 512 tokens, mixed precision, on machines of eight A100 80GB.
MEASURED = {
    8: (1648, 2109),
    64: (13005, 15760),
    128: (25570, 31129),
    256: (49663, 60206),
}


def measured() -> list[str]:
    """Efficiency of NVIDIA's runs of BERT large, and what the model makes of their eight GPUs."""
    recipe = load("BERT large", "bert_large_lamb.py")
    recipe.config.encoder.vocab_size = 30_522
    lines = [
        "| A100 | rows/s, PyTorch | efficiency | the model | rows/s, PaddlePaddle | efficiency | "
        "the model |",
        "|---|---|---|---|---|---|---|",
    ]
    for count, rates in MEASURED.items():
        cells = []
        for run, rate in enumerate(rates):
            alone = MEASURED[8][run] / 8  # Rows per second of a GPU.
            cells.append(f"{rate:,} | {rate / count / alone:.0%} | {against(recipe, count, alone)}")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return lines


def against(recipe: Recipe, count: int, rows_per_second: float) -> str:
    """Efficiency over eight GPUs, whose step takes what was measured, at the slow and fast end."""

    def beside(number: int) -> float:
        phase = dataclasses.replace(
            recipe.phase, num_microbatches=recipe.phase.batch_size // (32 * number)
        )
        one = predict(recipe.config, phase, GPUS["a100"], number)
        return one.weights + one.slow_links + one.latency

    eight = recipe.phase.batch_size / 8 / rows_per_second
    many = (eight - beside(8)) * 8 / count + beside(count)
    return f"{eight * 8 / count / many:.0%} to 100%"


def rates() -> list[str]:
    """The constants of every chip."""
    lines = [
        "| chip | peak, TFLOP/s | memory, GB/s | links, GB/s | a hop, µs | chips of a domain | "
        "network, GB/s | chips of a host |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chip in ALL_CHIPS.values():
        lines.append(
            f"| {chip.name} | {chip.peak_flops / 1e12:.0f} | "
            f"{chip.memory_bytes_per_second / 1e9:,.0f} | "
            f"{chip.link_bytes_per_second / 1e9:.0f} | {chip.hop_seconds * 1e6:.2g} | "
            f"{chip.domain_chips:,} | {chip.network_bytes_per_second / 1e9:.3g} | "
            f"{chip.chips_per_host} |"
        )
    return lines


TABLES = {
    "rates": rates,
    "limits": lambda: limits(recipes()),
    "times": lambda: times(recipes()[:-1]),  # The last has too few rows for these numbers.
    "dry run": comparison,
    "measured": measured,
}


def with_tables(text: str) -> str:
    """The document with every table as it is computed."""
    for name, lines in TABLES.items():
        begin, end = f"<!-- {name}: tools/scaling.py -->\n", "<!-- end -->"
        table = begin + "\n".join(lines()) + "\n" + end
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _, table=table: table, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{DOCUMENT.name} has {count} places for the table {name!r}, not one.")
    return text


def figure() -> Figure:
    """Efficiency over chips: from the slow to the fast end, for three recipes on two chips."""
    shown = [one for one in recipes() if one.name in ("large", "base, 2K rows", "base, 256 rows")]
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(9, 3.6), layout="constrained")
        panels = drawing.subplots(1, 2, sharey=True)
        for axes, name in zip(panels, ("v5e", "h100"), strict=True):
            for recipe, colour in zip(shown, COLOURS, strict=False):
                counts = [2**power for power in range(recipe.phase.batch_size.bit_length())]
                ends = [
                    predict(recipe.config, recipe.phase, ALL_CHIPS[name], count).efficiency
                    for count in counts
                ]
                slow, fast = zip(*ends, strict=True)
                rows = f"{recipe.name.split(',')[0]}, {recipe.phase.batch_size:,} rows"
                axes.fill_between(counts, slow, fast, color=colour, alpha=0.15, linewidth=0)
                axes.plot(counts, slow, color=colour, label=f"{rows}: none hides another")
                axes.plot(counts, fast, color=colour, linestyle=":", label="each hides the others")
            axes.set_xscale("log", base=2)
            axes.set_xticks([1, 8, 64, 512, 4096])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set(xlabel="chips", ylim=(0, 1.03), title=f"Predicted efficiency, {name}")
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--config", help="FILE or FILE:ARGUMENT; prints its rows and writes nothing"
    )
    given = parser.parse_args().config
    if given:
        file, _, argument = given.partition(":")
        module = runpy.run_path(file)
        one = resolved(
            pathlib.Path(file).stem, module["get_config"](*([argument] * bool(argument)))
        )
        print(*limits((one,)), "", *times((one,)), sep="\n")
        return
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    figure().savefig(PICTURE, dpi=130, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
