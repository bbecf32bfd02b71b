"""roberta-jax finetune, from the command line to the results."""

import itertools
import json
import pathlib
import statistics

import pytest

from roberta_jax import config as c
from roberta_jax.cli import finetune as verb
from roberta_jax.cli.main import main
from roberta_jax.errors import INTERRUPTED
from roberta_jax.finetune import finetune as finetune_module
from roberta_jax.finetune import task_data
from roberta_jax.tasks.catalogue import GLUE
from roberta_jax.tasks.results import read_results
from tests.train import runs

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
RECIPE = CONFIGS / "finetune" / "glue.py"
PLACES = ("--init_from=model", "--workdir=out")


@pytest.fixture
def called(monkeypatch):
    """The calls of `finetune`: (config, workdir, init_from, resume)."""
    calls = []

    def finetune(config, workdir, *, init_from, resume):
        calls.append((config, str(workdir), init_from, resume))
        return 0

    monkeypatch.setattr(finetune_module, "finetune", finetune)
    monkeypatch.setattr(task_data, "check_named", lambda config, init_from: None)
    return calls


def config_of(called, *flags):
    """The config of a command that calls `finetune` once."""
    called.clear()
    assert main(["finetune", *PLACES, *flags]) == 0
    ((config, workdir, init_from, _),) = called
    assert (workdir, init_from) == ("out", "model")
    return config


def refusal(capsys, *flags, places=PLACES):
    """The paragraph of a command that is refused with exit code 2."""
    assert main(["finetune", *places, *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("roberta-jax: ") and error.count("\n") == 1
    return error


def differences(config, other):
    """Path → value in `config`, where it is another one in `other`."""
    before = c.field_paths(other)
    return {name: value for name, value in c.field_paths(config).items() if before[name] != value}


# ---- Flags and fields ---------------------------------------------------------------------------

FLAGS = [
    ("--task=qnli", "task", "qnli"),  # Of sst2's settings.
    ("--data=glue", "data.path", "glue"),
    ("--max_length=64", "data.max_length", 64),
    ("--train_share=0.1", "data.train_share", 0.1),
    ("--seeds=5", "num_seeds", 5),
    ("--learning_rates=1e-5,2e-5", "fit.learning_rates", "1e-5,2e-5"),
    ("--batch_sizes=16,32", "fit.batch_sizes", "16,32"),
    ("--epochs=3", "fit.epochs", 3.0),
    ("--train=a.tsv", "table.train", "a.tsv"),
    ("--dev=b.tsv", "table.dev", "b.tsv"),
    ("--test=c.tsv", "table.test", "c.tsv"),
    ("--text=review", "table.text", "review"),
    ("--text_pair=answer", "table.text_pair", "answer"),
    ("--label=stars", "table.label", "stars"),
]


@pytest.mark.parametrize(("flag", "path", "value"), FLAGS, ids=[flag for flag, _, _ in FLAGS])
def test_a_flag_sets_its_field_and_no_other(called, flag, path, value):
    assert differences(config_of(called, flag), c.FinetuneConfig()) == {path: value}
    recipe = f"--config={RECIPE}:sst2"
    found, without = config_of(called, recipe, flag), config_of(called, recipe)
    assert differences(found, without) == {path: value}


def test_every_field_of_a_flag_is_tried():
    assert {path for _, path, _ in FLAGS} == {"task", *verb._FIELDS.values()}


def test_flags_win_over_fields_and_fields_over_the_recipe(called):
    recipe = f"--config={RECIPE}:sst2"
    assert config_of(called, recipe).fit.epochs == 10
    assert config_of(called, recipe, "--config.fit.epochs=4").fit.epochs == 4
    assert config_of(called, "--epochs=2", "--config.fit.epochs=4", recipe).fit.epochs == 2


def test_fields_need_no_recipe(called, capsys):
    """As a table of the user's has none."""
    table = ("--task=classification", "--train=a.tsv", "--config.fit.seeds_at_once=1")
    wanted = {"table.train": "a.tsv", "fit.seeds_at_once": 1}
    assert differences(config_of(called, *table, "--seeds=3"), c.FinetuneConfig()) == {
        **wanted,
        "num_seeds": 3,
    }
    assert "no --config" not in capsys.readouterr().out
    found = config_of(called, "--task=sst2", "--config.fit.epochs=4")
    assert differences(found, c.FinetuneConfig()) == {"task": "sst2", "fit.epochs": 4.0}
    assert "no --config: sst2 is trained with the defaults" in capsys.readouterr().out


def test_resume_reaches_the_run(called):
    for flags, resume in (((), "auto"), (("--resume=never",), "never")):
        config_of(called, "--task=sst2", *flags)
        assert called[0][3] == resume


def test_the_exit_code_is_that_of_the_run(called, monkeypatch):
    monkeypatch.setattr(finetune_module, "finetune", lambda *_, **__: INTERRUPTED)
    assert main(["finetune", *PLACES, "--task=sst2"]) == INTERRUPTED


@pytest.mark.parametrize("kind", ["classification", "regression", "tokens"])
def test_a_table_needs_no_recipe(called, kind):
    config = config_of(called, f"--task={kind}", "--train=a.tsv")
    assert (config.task, config.table.kind, config.table.train) == ("", kind, "a.tsv")


def test_a_recipe_of_a_table_is_used(called, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from roberta_jax import config as c\n\n\n"
        "def get_config():\n"
        '    return c.FinetuneConfig(table=c.TableConfig(kind="regression", train="a.csv"))\n'
    )
    config = config_of(called, f"--config={path}", "--train=b.csv", "--config.fit.batch_size=24")
    assert (config.task, config.table.kind, config.table.train) == ("", "regression", "b.csv")
    assert config.fit.batch_size == 24


def test_a_task_of_the_recipe_of_all_has_its_own_settings(called):
    config = config_of(called, f"--config={RECIPE}", "--task=rte", "--config.seed=3")
    assert (config.task, config.seed) == ("rte", 3)
    assert (config.optimizer.peak_learning_rate, config.fit.batch_size) == (2e-5, 16)


def test_a_task_beside_the_recipe_of_another_has_its_own_settings(called, capsys):
    config = config_of(called, f"--config={RECIPE}:sst2", "--task=rte")
    assert config == config_of(called, f"--config={RECIPE}:rte")
    error = refusal(capsys, f"--config={RECIPE}:sst2", "--task=squad2")
    assert (
        "--task=squad2, and --config is a recipe for sst2" in error and "no task of GLUE" in error
    )
    race = CONFIGS / "finetune" / "race.py"
    assert "is a recipe for race" in refusal(capsys, f"--config={race}", "--task=squad2")


@pytest.mark.parametrize(
    ("task", "card"), [("rte", "glue.py:rte"), ("squad1", "squad.py:squad1"), ("race", "race.py")]
)
def test_a_published_task_without_a_recipe_names_it(called, capsys, task, card):
    assert config_of(called, f"--task={task}") == c.FinetuneConfig(task=task)
    assert f"--config=configs/finetune/{card} has the published" in capsys.readouterr().out
    named = config_of(called, f"--config={CONFIGS / 'finetune' / card}")
    assert named.task == task and capsys.readouterr().out == ""


def test_the_help_states_what_holds_without_a_flag(capsys):
    assert main(["finetune", "--help"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    config = c.FinetuneConfig()
    for flag, default in (
        ("--epochs", f"{config.fit.epochs:g}"),
        ("--seeds", config.num_seeds),
        ("--train_share", f"{config.data.train_share:g}"),
        ("--batch_sizes", config.fit.batch_size),
        ("--learning_rates", config.optimizer.peak_learning_rate),
        ("--max_length", "what the model takes, at most 512"),
    ):
        assert f"(default: the recipe's; without one {default})." in lines[flag]


# ---- All of GLUE --------------------------------------------------------------------------------


@pytest.fixture
def glue(tmp_path, monkeypatch):
    """A folder with four tasks whose files nobody reads; where the commands are given, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(task_data, "load_task", lambda config: None)
    for title in ("CoLA", "MNLI", "RTE", "QQP"):
        (tmp_path / "glue" / title).mkdir(parents=True)
    return "glue"


def all_configs(called, *flags):
    called.clear()
    assert main(["finetune", *PLACES, *flags]) == 0
    return {config.task: config for config, *_ in called}


def test_all_runs_the_tasks_that_are_there_with_their_own_settings(called, glue, capsys):
    configs = all_configs(called, f"--config={RECIPE}:all", f"--data={glue}")
    assert list(configs) == ["cola", "qqp", "mnli", "rte"]  # RTE begins with MNLI's.
    assert "left out: SST-2, MRPC, STS-B, QNLI, WNLI" in capsys.readouterr().out
    for task, config in configs.items():
        assert config == config_of(called, f"--config={RECIPE}:{task}", f"--data={glue}")
    assert configs["qqp"].schedule.warmup == "25%" and configs["cola"].fit.batch_size == 16


def test_the_order_is_glue_s_with_those_that_begin_with_mnli_at_the_end(called, glue):
    for task in GLUE:
        pathlib.Path(glue, task.title).mkdir(exist_ok=True)
    assert list(all_configs(called, "--task=all", f"--data={glue}")) == [
        *("cola", "sst2", "qqp", "mnli", "qnli", "wnli", "mrpc", "stsb", "rte")
    ]


def test_the_files_of_all_tasks_are_read_before_the_first_is_trained(called, capsys, tmp_path):
    cola, rte = "a\t1\t\tA text.\nb\t0\t\tText a.\n", "index\tsentence1\tsentence2\tlabel\n"
    rows = "0\tA man.\tA man.\tentailment\n1\tA man.\tNobody.\tnot_entailment\n"
    for task, text in (("CoLA", cola), ("RTE", rte + rows)):
        (tmp_path / task).mkdir()
        for split in ("train", "dev"):
            (tmp_path / task / f"{split}.tsv").write_text(text)
    flags = (f"--config={RECIPE}:all", f"--data={tmp_path}")
    assert list(all_configs(called, *flags)) == ["cola", "rte"]
    called.clear()
    (tmp_path / "RTE" / "dev.tsv").write_text(f"{rte}{rows}2\tA man.\n")
    assert "dev.tsv, line 4" in refusal(capsys, *flags) and not called
    (tmp_path / "RTE" / "dev.tsv").write_text(rte + rows)
    assert "epochs" in refusal(capsys, *flags, "--epochs=0") and not called


def test_overrides_and_flags_are_those_of_every_task(called, glue):
    configs = all_configs(
        called,
        f"--config={RECIPE}:all",
        f"--data={glue}",
        "--seeds=2",
        # The value that the recipe of "all" has anyway: RTE's own is another one.
        "--config.fit.batch_size=32",
        "--config.schedule.warmup=7%",
        "--config.model.random_weights=true",
    )
    for task, config in configs.items():
        own = config_of(called, f"--config={RECIPE}:{task}")
        assert differences(config, own) == {
            "num_seeds": 2,
            "data.path": "glue",
            "schedule.warmup": "7%",
            "model.random_weights": True,
            **({} if own.fit.batch_size == 32 else {"fit.batch_size": 32}),
        }
    assert configs["rte"].optimizer.peak_learning_rate == 2e-5


def test_all_may_be_the_flag_and_needs_no_recipe(called, glue):
    configs = all_configs(called, "--task=all", f"--data={glue}", "--epochs=1")
    assert list(configs) == ["cola", "qqp", "mnli", "rte"]
    assert {config.fit.epochs for config in configs.values()} == {1.0}
    data = f"--config.data.path={glue}"
    assert list(all_configs(called, f"--config={RECIPE}:cola", "--task=all", data)) == list(configs)


def test_tasks_that_begin_with_mnli_take_the_model_of_this_workdir(called, glue):
    for task in ("MRPC", "STS-B"):
        pathlib.Path(glue, task).mkdir()
    command = (f"--config={RECIPE}:all", f"--data={glue}")
    all_configs(called, *command)
    assert {init_from for _, _, init_from, _ in called} == {"model"}
    model = pathlib.Path("out", "mnli", "model")
    model.mkdir(parents=True)
    (model / "task.json").write_text("{}")
    all_configs(called, *command)
    assert {config.task: init_from for config, _, init_from, _ in called} == {
        **dict.fromkeys(("cola", "qqp", "mnli"), "model"),
        **dict.fromkeys(("mrpc", "stsb", "rte"), str(model)),
    }
    all_configs(called, *command, "--config.model.random_weights=true")
    assert {init_from for _, _, init_from, _ in called} == {"model"}


def test_an_interrupt_ends_all_of_them(called, glue, monkeypatch):
    tasks = []

    def finetune(config, *_, **__):
        tasks.append(config.task)
        return INTERRUPTED if config.task == "qqp" else 0

    monkeypatch.setattr(finetune_module, "finetune", finetune)
    assert main(["finetune", *PLACES, "--task=all", f"--data={glue}"]) == INTERRUPTED
    assert tasks == ["cola", "qqp"]


# ---- Refused ------------------------------------------------------------------------------------


def test_what_is_missing_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = "--task=sst2"
    assert "--init_from is missing" in refusal(capsys, task, places=("--workdir=out",))
    assert "--workdir is missing" in refusal(capsys, task, places=("--init_from=model",))
    assert "--data is missing: the folder with the files of SST-2" in refusal(capsys, task)
    assert "--data is missing: the folder with GLUE's folders" in refusal(capsys, "--task=all")
    text = refusal(capsys)
    assert "No task was given" in text and "--train=FILE" in text
    assert "There is no task of GLUE in ." in refusal(capsys, "--task=all", "--data=.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task=sst3", "--data=x"), "'sst3' is no published task"),
        (("--seeds=0",), "--seeds=0"),
        (("--max_length=0",), "--max_length=0"),
        (("--epochs=many",), "--epochs=many"),
        (("--epochs=0", "--task=sst2", "--data=x"), "config.fit.epochs is 0.0"),
        (("--resume=must",), "value should be one of <auto|never>"),
        (("--batch_size=8",), "Unknown command line flag 'batch_size'"),
        (("more", "words"), "takes no positional arguments, got ['more', 'words']"),
        (("--config.seeds=1",), "no such field. Did you mean --config.seed, --config.num_seeds?"),
        ((f"--config={RECIPE}:sst3",), "'sst3' is no task of GLUE"),
        ((f"--config={RECIPE}", "--task=squad1"), "'squad1' is no task of GLUE"),
        ((f"--config={RECIPE}:sst2", "--config.fit.batch=8"), "--config.fit.batch_size"),
        ((f"--config={RECIPE}:sst2", "--config.train.batch_size=8"), "no such field"),
        (("--task=sst2", "--data=x"), "--data=x is not there"),
        (("--task=sst2", "--data=."), "--init_from=model is not there"),
        # Files that nothing would read.
        (("--task=sst2", "--data=x", "--train=a.tsv"), "--train=a.tsv is of a table"),
        # Columns that nothing would read.
        (
            (f"--config={RECIPE}:sst2", "--data=x", "--text=foo", "--label=bar"),
            "--text=foo and --label=bar are of a table of your own. Leave them out",
        ),
        (("--task=regression", "--train=a.tsv"), "--train=a.tsv is not there. Give a file"),
        (("--task=regression", "--train=."), "--train=. is a folder. Give a file"),
        (("--task=regression", "--data=x", "--train=a.tsv"), "--data=x is for a published task"),
    ],
)
def test_bad_input_is_one_paragraph_and_leaves_nothing(
    capsys, tmp_path, monkeypatch, flags, message
):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(capsys, *flags)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_for_the_other_verb_is_refused(capsys, complete):
    text = refusal(capsys, f"--config={CONFIGS / 'pretrain' / 'tiny.py'}")
    assert "returned PretrainConfig, not FinetuneConfig" in text
    assert "configs/finetune/glue.py:sst2" in text
    text = refusal(capsys, f"--config={complete / 'config.json'}")
    assert "is not a recipe" in text and "configs/finetune/glue.py:sst2" in text
    assert main(["pretrain", f"--config={RECIPE}:sst2", "--workdir=out"]) == 2
    text = capsys.readouterr().err
    assert "returned FinetuneConfig, not PretrainConfig" in text
    assert "configs/pretrain/tiny.py" in text


def test_help_lists_the_fields(capsys):
    assert main(["finetune", "--help"]) == 0
    said = capsys.readouterr().out
    for name, value in c.field_paths(c.FinetuneConfig()).items():
        assert f"--config.{name}={value!r}" in said
    assert "or the config.json of a workdir" not in said
    assert main(["pretrain", "--help"]) == 0
    assert "or the config.json of a workdir" in capsys.readouterr().out


# ---- Whole runs, of tables ----------------------------------------------------------------------


def words(number):
    return [runs.WORDS[(7 * number + 3 * place) % len(runs.WORDS)] for place in range(5)]


def write_pairs(path, count=24):
    """CSV: whether the second text is the first one, its end, or another one."""
    lines = ["claim,evidence,verdict"]
    for number in range(count):
        first = words(number)
        second = (first, first[2:], words(number + 5))[number % 3]
        lines.append(
            f"{' '.join(first)},{' '.join(second)},{('same', 'part', 'other')[number % 3]}"
        )
    path.write_text("\n".join(lines) + "\n")


def write_numbers(path, count=16):
    """JSON lines: how long a text is."""
    rows = [{"text": " ".join(words(n)[: 1 + n % 5]), "stars": 1 + n % 5} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_words(path, count=16):
    """TSV: which words are places."""
    places = {"river", "house", "village", "bridge", "market"}
    rows = [
        (words(n), ["B-PLACE" if word in places else "O" for word in words(n)])
        for n in range(count)
    ]
    lines = [f"{' '.join(left)}\t{' '.join(right)}" for left, right in rows]
    path.write_text("\n".join(["words\ttags", *lines]) + "\n")


def finetuned(complete, tmp_path, *flags):
    """The result of a run of a table, with one epoch of batches of eight."""
    recipe = tmp_path / "quick.py"
    recipe.write_text(
        "from roberta_jax import config as c\n\n\n"
        "def get_config():\n"
        "    return c.FinetuneConfig(fit=c.FitConfig(epochs=1.0, batch_size=8))\n"
    )
    workdir = tmp_path / "out"
    command = ["finetune", f"--config={recipe}", f"--init_from={complete}", f"--workdir={workdir}"]
    assert main([*command, *flags]) == 0
    (result,) = read_results(workdir)
    return result, workdir / result.name


@pytest.mark.slow
def test_a_table_of_pairs_with_three_classes(complete, tmp_path, capsys):
    write_pairs(tmp_path / "train.csv")
    write_pairs(tmp_path / "dev.csv", 9)
    (tmp_path / "new.csv").write_text("claim,evidence\nthe river,the river\nthe wind,a house\n")
    result, folder = finetuned(
        complete,
        tmp_path,
        *(f"--{name}={tmp_path / name}.csv" for name in ("train", "dev")),
        f"--test={tmp_path / 'new.csv'}",
        *("--task=classification", "--text=claim", "--text_pair=evidence", "--label=verdict"),
    )
    assert result.kind == "classification" and result.labels == ("other", "part", "same")
    assert (
        sum(map(sum, result.confusion)) == 9 and [sum(row) for row in result.confusion] == [3] * 3
    )
    assert result.trials[0].num_train == 24 and result.trials[0].seeds[0].best_step == 3
    assert set(result.figures()["dev"]) == {"accuracy", "macro_f1"}
    (predictions,) = (folder / "predictions").iterdir()
    assert len(predictions.read_text().splitlines()) == 2
    task = json.loads((folder / "model" / "task.json").read_text())
    assert task["columns"] == {"text": "claim", "text_pair": "evidence", "label": "verdict"}
    assert "train 24, dev 9 examples" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_of_numbers(complete, tmp_path):
    write_numbers(tmp_path / "reviews.jsonl")
    result, folder = finetuned(
        complete,
        tmp_path,
        *("--task=regression", f"--train={tmp_path / 'reviews.jsonl'}", "--label=stars"),
    )
    assert result.kind == "regression" and result.confusion is None
    assert set(result.figures()["dev"]) == {"pearson", "spearman"}
    assert result.trials[0].num_train == 14  # Two rows were set aside.
    assert any("2 of 16 rows were set aside" in note for note in result.notes)
    task = json.loads((folder / "model" / "task.json").read_text())["task"]
    # Targets are scaled to the mean and deviation of the numbers that were trained on.
    found = pytest.approx((task["shift"], task["scale"]), rel=1e-12)
    assert any(
        (statistics.mean(kept), statistics.pstdev(kept)) == found
        for kept in itertools.combinations([1 + n % 5 for n in range(16)], 14)
    )


@pytest.mark.slow
def test_a_table_of_words_with_labels(complete, tmp_path):
    write_words(tmp_path / "places.tsv")
    result, folder = finetuned(
        complete,
        tmp_path,
        *(
            "--task=tokens",
            f"--train={tmp_path / 'places.tsv'}",
            f"--dev={tmp_path / 'places.tsv'}",
        ),
        *("--text=words", "--label=tags"),
    )
    assert result.kind == "tokens" and set(result.labels) == {"O", "B-PLACE"}
    assert set(result.figures()["dev"]) == {"entity_f1", "token_accuracy"}
    assert sum(map(sum, result.confusion)) == 16 * 5
    assert (folder / "model" / "task.json").is_file()
