"""What transformers wrote is read; what we write, transformers opens in silence."""

import contextlib
import json
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tokenizers  # noqa: E402
import transformers  # noqa: E402

import roberta_jax  # noqa: E402
from roberta_jax.encoder.task_model import TaskHead, bind_task  # noqa: E402
from roberta_jax.interop.export_model import export_model  # noqa: E402
from roberta_jax.interop.huggingface import read_huggingface, write_huggingface  # noqa: E402
from roberta_jax.interop.import_model import import_model  # noqa: E402
from roberta_jax.interop.names import class_name  # noqa: E402
from roberta_jax.interop.weights import weight_shapes  # noqa: E402
from tests.interop import foreign, peers  # noqa: E402
from tests.train import runs  # noqa: E402

pytestmark = pytest.mark.parity

ATOL = 2e-5
TEXTS = (
    "The old river carried nobody.",
    "Slowly came back to me, while rain never fell!",
    "the",
    "a  small   village <mask> knew\twhy",
    "Ünïcode 日本 🌧 42",
)
families = pytest.mark.parametrize("family", foreign.FAMILIES)


def quiet(line):
    del line


@contextlib.contextmanager
def silence():
    """Fails where transformers, or anybody else, warns."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    handler = Keep(logging.WARNING)
    loggers = [transformers.logging.get_logger(), logging.getLogger()]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    messages = [record.getMessage() for record in records]
    messages += [str(warning.message) for warning in caught]
    assert messages == []


def test_silence_is_broken_by_warnings():
    for warn in (
        lambda: transformers.logging.get_logger("transformers.models").warning("Some weights"),
        lambda: warnings.warn("old", FutureWarning, stacklevel=1),
    ):
        with pytest.raises(AssertionError), silence():
            warn()


def opened(folder, name, **options):
    """A model of transformers from a folder: every weight is there, none is left over."""
    with silence():
        model, report = getattr(transformers, name).from_pretrained(
            folder, output_loading_info=True, **options
        )
    assert not any(report.values()), report
    return model.eval()


def ids_of(tokenizer, texts=TEXTS):
    """Rows [B, T] of our tokenizer, padded."""
    rows = [tokenizer.row(tokenizer.encode(text)) for text in texts]
    ids = np.full((len(rows), max(map(len, rows))), tokenizer.pad_id)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return ids


def their_outputs(model, ids, **inputs):
    ids = torch.tensor(ids)
    with torch.no_grad():
        return model(
            input_ids=ids, attention_mask=(ids != model.config.pad_token_id).long(), **inputs
        )


def assert_same_logits(model, theirs):
    ids = ids_of(model.tokenizer, ["The old river.", "Nobody knew why rain fell.", "a"])
    real = ids != model.config.pad_id
    found, wanted = model.logits(ids), their_outputs(theirs, ids).logits.numpy()
    np.testing.assert_allclose(found[real], wanted[real], rtol=0, atol=ATOL)
    assert np.abs(wanted[real]).max() > 100 * ATOL  # A tolerance that can fail.


def their_model(family, name="", seed=0, **changes):
    """A model of transformers with every weight at random."""
    values = foreign.config_values(family, **changes)
    config = peers.CONFIGS[family](**values)
    torch.manual_seed(seed)
    model = getattr(transformers, name or class_name(family))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def saved(folder, model, family, **options):
    """A folder as transformers writes it, with its own tokenizer files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder, **options)
        foreign.write_tokenizer(folder / "given", family)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "given")
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(complete, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(complete, folder, say=quiet)
    return folder


# ---- In -----------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("size", [None, "20KB"], ids=["one file", "shards"])
def test_what_transformers_saves_is_read(tmp_path, family, size):
    theirs = their_model(family)
    options = {"max_shard_size": size} if size else {}
    saved(tmp_path, theirs, family, **options)
    assert (tmp_path / "model.safetensors").exists() == (size is None)
    model = roberta_jax.load(tmp_path)
    assert model.tokenizer.vocab_size == foreign.num_tokens(family)
    assert_same_logits(model, theirs)
    import_model(tmp_path, tmp_path / "run", say=quiet)
    assert_same_logits(roberta_jax.load(tmp_path / "run"), theirs)


@families
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_half_precision_are_read(tmp_path, family, dtype):
    theirs = their_model(family).to(getattr(torch, dtype))
    saved(tmp_path, theirs, family)
    assert_same_logits(roberta_jax.load(tmp_path), theirs.float())


def test_bert_for_pretraining_loses_nothing_and_comes_out_again(tmp_path):
    theirs = their_model("bert", "BertForPreTraining")
    saved(tmp_path, theirs, "bert")
    model = read_huggingface(tmp_path)
    assert model.left_out == [] and model.config.next_sentence_head
    import_model(tmp_path, tmp_path / "run", say=quiet)
    export_model(tmp_path / "run", tmp_path / "out", say=quiet)
    again, wanted = opened(tmp_path / "out", "BertForPreTraining").state_dict(), theirs.state_dict()
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in wanted.items())
    ids = ids_of(roberta_jax.load(tmp_path).tokenizer)
    wanted = their_outputs(theirs, ids).prediction_logits.numpy()
    found = roberta_jax.load(tmp_path).logits(ids)
    real = ids != 0
    np.testing.assert_allclose(found[real], wanted[real], rtol=0, atol=ATOL)


@families
def test_every_other_class_of_transformers_is_refused(tmp_path, family):
    for name in ("Model", "ForSequenceClassification", "ForQuestionAnswering"):
        base = class_name(family).removesuffix("ForMaskedLM")
        saved(tmp_path / name, their_model(family, base + name), family)
        with pytest.raises(roberta_jax.errors.UserError, match=r"missing, .*No weight is made up"):
            read_huggingface(tmp_path / name)


@families
def test_a_round_trip_through_us_gives_transformers_its_own_weights(tmp_path, family):
    theirs = their_model(family)
    saved(tmp_path / "in", theirs, family)
    import_model(tmp_path / "in", tmp_path / "run", say=quiet)
    export_model(tmp_path / "run", tmp_path / "out", say=quiet)
    again = opened(tmp_path / "out", class_name(family))
    state, wanted = again.state_dict(), theirs.state_dict()
    assert state.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(state[name], tensor), name
    assert again.config.to_diff_dict() == {
        **theirs.config.to_diff_dict(),
        **{"dtype": "float32", "architectures": [class_name(family)]},
    }


# ---- Out ----------------------------------------------------------------------------------------


def test_an_exported_run_computes_the_same(exported, complete):
    theirs = opened(exported, "RobertaForMaskedLM")
    assert theirs.dtype == torch.float32
    assert_same_logits(roberta_jax.load(complete), theirs)
    assert type(opened(exported, "AutoModelForMaskedLM")) is transformers.RobertaForMaskedLM


def test_every_field_of_config_json_is_that_of_transformers(exported):
    written = json.loads((exported / "config.json").read_text())
    wanted = transformers.RobertaConfig(
        architectures=["RobertaForMaskedLM"],
        dtype="float32",
        vocab_size=runs.VOCAB_SIZE,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    ).to_dict()
    assert written.keys() <= wanted.keys()
    for name, value in written.items():
        assert (value, type(value)) == (wanted[name], type(wanted[name])), name
    found = transformers.AutoConfig.from_pretrained(exported).to_dict()
    assert {**found, "_name_or_path": ""} == wanted


@families
def test_a_model_as_transformers_makes_it_has_the_fields_that_we_write(tmp_path, family):
    theirs = their_model(family)
    saved(tmp_path / "in", theirs, family)
    import_model(tmp_path / "in", tmp_path / "run", say=quiet)
    export_model(tmp_path / "run", tmp_path / "out", say=quiet)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    wanted = json.loads((tmp_path / "in" / "config.json").read_text())
    assert {**written, "transformers_version": transformers.__version__} == wanted


def test_bfloat16_opens_as_bfloat16_and_differs_by_rounding_only(complete, exported, tmp_path):
    export_model(complete, tmp_path / "out", dtype="bfloat16", say=quiet)
    theirs = opened(tmp_path / "out", "RobertaForMaskedLM")
    assert theirs.dtype == torch.bfloat16
    wanted = opened(exported, "RobertaForMaskedLM").state_dict()
    for name, tensor in theirs.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, wanted[name].to(torch.bfloat16)), name


# ---- Tokenizers ---------------------------------------------------------------------------------


def assert_same_tokenizer(folder, tokenizer, max_tokens):
    with silence():
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.model_max_length == max_tokens
    assert len(theirs) == tokenizer.vocab_size
    for role, name in (
        ("bos", "cls"),
        ("eos", "sep"),
        ("pad", "pad"),
        ("unk", "unk"),
        ("mask", "mask"),
    ):
        assert getattr(theirs, f"{name}_token_id") == getattr(tokenizer, f"{role}_id"), role
    for text in TEXTS:
        text = text.replace("<mask>", theirs.mask_token)
        assert theirs(text)["input_ids"] == tokenizer.row(tokenizer.encode_with_masks(text)), text
    pair = tokenizer.row(tokenizer.encode(TEXTS[0]), tokenizer.encode(TEXTS[1]))
    assert theirs(TEXTS[0], TEXTS[1])["input_ids"] == pair
    with silence():
        cut = theirs("the " * 99, truncation=True)["input_ids"]
    assert len(cut) == max_tokens
    ids = tokenizer.encode(TEXTS[0])
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    assert theirs.decode(ids).strip() == decoded.strip()


def test_the_tokenizer_of_an_exported_run(exported, complete):
    model = roberta_jax.load(complete)
    assert_same_tokenizer(exported, model.tokenizer, runs.SEQUENCE_LENGTH)
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    assert isinstance(theirs, transformers.RobertaTokenizer)


@families
@pytest.mark.parametrize("written_by", ["hand", "transformers"])
def test_the_tokenizer_of_an_imported_model(tmp_path, family, written_by):
    if written_by == "hand":
        foreign.write_folder(tmp_path / "in", family)
    else:
        saved(tmp_path / "in", their_model(family), family)
    import_model(tmp_path / "in", tmp_path / "run", say=quiet)
    export_model(tmp_path / "run", tmp_path / "out", say=quiet)
    model = roberta_jax.load(tmp_path / "run")
    assert_same_tokenizer(tmp_path / "out", model.tokenizer, foreign.POSITIONS)


# ---- fill-mask ----------------------------------------------------------------------------------


def assert_same_candidates(folder, model, text):
    with silence():
        fill = transformers.pipeline("fill-mask", model=str(folder), device="cpu")
        theirs = fill(text.replace("<mask>", fill.tokenizer.mask_token), top_k=20)
    special = set(model.tokenizer.special_ids)  # Which we never propose.
    theirs = [answer for answer in theirs if answer["token"] not in special][:5]
    ids = {}
    for token_id in range(model.tokenizer.vocab_size):
        ids.setdefault(model.tokenizer.token_text(token_id), []).append(token_id)
    (ours,) = model.fill_mask(text)
    assert len(ours) == len(theirs) == 5
    for mine, other in zip(ours, theirs, strict=True):
        assert other["token"] in ids[mine.token]
        assert mine.probability == pytest.approx(other["score"], rel=1e-4)


@pytest.mark.parametrize("text", ["The old river <mask> over the bridge.", "<mask>", "Rain<mask>"])
def test_fill_mask_of_an_exported_run(exported, complete, text):
    model = roberta_jax.load(complete)
    assert_same_candidates(exported, model, text)
    # After training, no special token is among the first five, and nothing need be left out.
    fill = transformers.pipeline("fill-mask", model=str(exported), device="cpu")
    (ours,) = model.fill_mask(text)
    assert [answer["token_str"] for answer in fill(text)] == [answer.token for answer in ours]


@families
def test_fill_mask_of_an_imported_model(tmp_path, family):
    saved(tmp_path / "in", their_model(family), family)
    import_model(tmp_path / "in", tmp_path / "run", say=quiet)
    export_model(tmp_path / "run", tmp_path / "out", say=quiet)
    model = roberta_jax.load(tmp_path / "run")
    for folder in (tmp_path / "in", tmp_path / "out"):
        assert_same_candidates(folder, model, "the old river <mask> over the bridge")


# ---- Fine-tuned models --------------------------------------------------------------------------

HEADS = {
    "classification": (3, ("no", "perhaps", "yes")),
    "choice": (1, ()),
    "span": (2, ()),
    "tokens": (4, ("O", "B-PER", "I-PER", "B-LOC")),
}


def random_params(shapes):
    generator = np.random.Generator(np.random.Philox(key=4))
    return jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(0, 0.3, leaf.shape), jnp.float32), shapes
    )


@families
@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_task_classes_open_and_give_the_same_scores(tmp_path, family, task, dtype):
    num_outputs, labels = HEADS[task]
    head = TaskHead(task=task, num_outputs=num_outputs, dropout_rate=0.0)
    foreign.write_folder(tmp_path / "in", family)
    base = read_huggingface(tmp_path / "in")
    params = random_params(weight_shapes(base.config, head))
    (tmp_path / "out").mkdir()
    write_huggingface(
        *(tmp_path / "out", params, base.config, base.tokenizer),
        **{"head": head, "labels": labels, "dtype": dtype},
    )
    theirs = opened(tmp_path / "out", class_name(family, task))
    assert type(theirs).__name__ == class_name(family, task)
    assert theirs.dtype == getattr(torch, dtype)
    if labels:
        assert theirs.config.num_labels == num_outputs
        assert theirs.config.id2label == dict(enumerate(labels))
        assert theirs.config.label2id == {label: i for i, label in enumerate(labels)}
    if dtype == "bfloat16":
        return
    ids = ids_of(base.tokenizer, ["The old river.", "Nobody knew why."])
    types = np.where(np.arange(ids.shape[1]) > 3, base.config.num_token_types - 1, 0).clip(0)
    types = np.broadcast_to(types, ids.shape)
    scores = bind_task(base.config, head, params)(
        jnp.asarray(ids, jnp.int32), token_types=jnp.asarray(types, jnp.int32)
    )
    inputs = torch.tensor(ids), torch.tensor(types)
    mask = inputs[0] != theirs.config.pad_token_id
    if task == "choice":  # One question with two choices.
        inputs, mask = [value[None] for value in inputs], mask[None]
    with torch.no_grad():
        answer = theirs(input_ids=inputs[0], token_type_ids=inputs[1], attention_mask=mask.long())
    if task == "span":
        wanted = torch.stack([answer.start_logits, answer.end_logits], -1)
    else:
        wanted = answer.logits[0][:, None] if task == "choice" else answer.logits
    real = ids != base.config.pad_id if scores.ndim == 3 else ...
    np.testing.assert_allclose(np.asarray(scores)[real], wanted.numpy()[real], rtol=0, atol=ATOL)


def test_a_folder_of_ours_can_be_trained_and_saved_by_transformers(exported, tmp_path):
    model = opened(exported, "RobertaForMaskedLM")
    ids = torch.tensor([[0, 50, 299, 60, 2]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.lm_head.decoder.weight is model.roberta.embeddings.word_embeddings.weight
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(exported).save_pretrained(tmp_path)
    again = roberta_jax.load(tmp_path)
    assert again.tokenizer.fingerprint == read_huggingface(exported).tokenizer.fingerprint


def test_the_tokenizers_library_reads_what_we_write(exported):
    plain = tokenizers.Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer = read_huggingface(exported).tokenizer
    for text in TEXTS:
        assert plain.encode(text).ids == tokenizer.row(tokenizer.encode_with_masks(text))
