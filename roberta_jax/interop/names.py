"""The table: the path of a weight here ↔ the name of its tensor in transformers."""

import dataclasses

# Architectures by transformers' `model_type`; XLM-RoBERTa is RoBERTa with another vocabulary.
FAMILIES = ("roberta", "xlm-roberta", "bert")

# (our module, transformers' module inside the encoder). `{layer}` stands for the layer's number.
_ENCODER_MODULES = (
    ("embedding/token", "embeddings.word_embeddings"),
    ("embedding/position", "embeddings.position_embeddings"),
    ("embedding/token_type", "embeddings.token_type_embeddings"),
    ("embedding/norm", "embeddings.LayerNorm"),
    ("layers/attention/query", "encoder.layer.{layer}.attention.self.query"),
    ("layers/attention/key", "encoder.layer.{layer}.attention.self.key"),
    ("layers/attention/value", "encoder.layer.{layer}.attention.self.value"),
    ("layers/attention/out", "encoder.layer.{layer}.attention.output.dense"),
    ("layers/attention_norm", "encoder.layer.{layer}.attention.output.LayerNorm"),
    ("layers/mlp/up", "encoder.layer.{layer}.intermediate.dense"),
    ("layers/mlp/down", "encoder.layer.{layer}.output.dense"),
    ("layers/mlp_norm", "encoder.layer.{layer}.output.LayerNorm"),
)

# By (task, family): the modules of the head, from the root of the model.
_MASKED_LM = "masked_lm"
_HEAD_MODULES = {
    (_MASKED_LM, "roberta"): (
        ("head/dense", "lm_head.dense"),
        ("head/norm", "lm_head.layer_norm"),
        ("head", "lm_head"),
    ),
    (_MASKED_LM, "bert"): (
        ("head/dense", "cls.predictions.transform.dense"),
        ("head/norm", "cls.predictions.transform.LayerNorm"),
        ("head", "cls.predictions"),
        ("next_sentence_head/dense", "bert.pooler.dense"),
        ("next_sentence_head/projection", "cls.seq_relationship"),
    ),
    ("classification", "roberta"): (
        ("head/dense", "classifier.dense"),
        ("head/projection", "classifier.out_proj"),
    ),
    ("classification", "bert"): (
        ("head/dense", "bert.pooler.dense"),
        ("head/projection", "classifier"),
    ),
    ("choice", "roberta"): (
        ("head/dense", "roberta.pooler.dense"),
        ("head/projection", "classifier"),
    ),
    ("choice", "bert"): (
        ("head/dense", "bert.pooler.dense"),
        ("head/projection", "classifier"),
    ),
    ("span", "roberta"): (("head/projection", "qa_outputs"),),
    ("span", "bert"): (("head/projection", "qa_outputs"),),
    ("tokens", "roberta"): (("head/projection", "classifier"),),
    ("tokens", "bert"): (("head/projection", "classifier"),),
}

# Our leaf → transformers' leaf. A kernel here is [in, out], a weight there [out, in].
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}

# A masked language model that has a next-sentence head too; transformers has it of BERT only.
PRETRAINING = "pretraining"
# Classes by (task, family).
_CLASS_OF_TASK = {
    _MASKED_LM: "ForMaskedLM",
    PRETRAINING: "ForPreTraining",
    "classification": "ForSequenceClassification",
    "choice": "ForMultipleChoice",
    "span": "ForQuestionAnswering",
    "tokens": "ForTokenClassification",
}
_CLASS_OF_FAMILY = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "bert": "Bert"}


@dataclasses.dataclass(frozen=True, slots=True)
class TensorName:
    """The name of a weight's tensor, or tensors: `{layer}` stands for the layer's number."""

    name: str
    transposed: bool

    @property
    def stacked(self) -> bool:
        """Whether the weight here is [L, …] and every layer has a tensor there."""
        return "{layer}" in self.name


def has_next_sentence(family: str) -> bool:
    """Whether transformers has a class with the head for next-sentence prediction."""
    return family == "bert"


def base_of(family: str) -> str:
    """The family after which transformers names the tensors: "roberta" or "bert"."""
    return "bert" if family == "bert" else "roberta"


def tensor_name(path: str, family: str, task: str = _MASKED_LM) -> TensorName:
    """Where a weight is in transformers' model.

    Args:
      path: such as "layers/mlp/up/kernel".
      family: one of FAMILIES.
      task: "masked_lm" or one of `encoder.task_model.TASKS`.
    """
    module, _, leaf = path.rpartition("/")
    base = base_of(family)
    for ours, theirs in _ENCODER_MODULES:
        if ours == module:
            return TensorName(f"{base}.{theirs}.{_LEAVES[leaf]}", leaf == "kernel")
    for ours, theirs in _HEAD_MODULES[task, base]:
        if ours == module:
            return TensorName(f"{theirs}.{_LEAVES[leaf]}", leaf == "kernel")
    raise KeyError(f"No row of the table covers {path!r}; every weight must be covered.")


def class_name(family: str, task: str = _MASKED_LM) -> str:
    """The transformers class of a model, such as "RobertaForMaskedLM".

    `task` is as for `tensor_name`, or PRETRAINING.
    """
    return _CLASS_OF_FAMILY[family] + _CLASS_OF_TASK[task]


def family_and_task(name: str) -> tuple[str, str] | None:
    """(family, task) of a class of transformers, as `class_name` takes them; None for others."""
    return next(
        (
            (family, task)
            for family in FAMILIES
            for task in _CLASS_OF_TASK
            if class_name(family, task) == name
        ),
        None,
    )


# By base: the second name under which a file of a masked language model may hold a tensor, beside
# the first name or instead of it.
TIED_NAMES = {
    "roberta": {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    "bert": {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
}
# By base: tensors for which a masked language model has no place, unless it has a next-sentence
# head. Position ids are not weights; the pooler belongs to other objectives.
LEFT_OUT_PREFIXES = {
    "roberta": ("roberta.embeddings.position_ids", "roberta.pooler."),
    "bert": ("bert.embeddings.position_ids", "bert.pooler.", "cls.seq_relationship."),
}


def present_name(name: str) -> str:
    """The name in use today of a tensor of an old file: BERT's LayerNorm had gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )
