"""Models of transformers with weights at random, and the same weights here."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from roberta_jax.encoder.model import bind
from roberta_jax.encoder.task_model import bind_task
from roberta_jax.interop.names import class_name
from roberta_jax.interop.transformers_config import encoder_config
from roberta_jax.interop.weights import read_weights

transformers.logging.disable_progress_bar()

CONFIGS = {
    "roberta": transformers.RobertaConfig,
    "xlm-roberta": transformers.XLMRobertaConfig,
    "bert": transformers.BertConfig,
}
MODELS = {
    "roberta, 2 layers": dict(
        family="roberta", vocab_size=101, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=48, max_position_embeddings=26,
        type_vocab_size=1, layer_norm_eps=1e-5,
    ),
    "roberta, 5 layers, one head": dict(
        family="roberta", vocab_size=333, hidden_size=24, num_hidden_layers=5,
        num_attention_heads=1, intermediate_size=96, max_position_embeddings=40,
        type_vocab_size=1, layer_norm_eps=1e-5,
    ),
    "roberta, wide": dict(
        family="roberta", vocab_size=1021, hidden_size=256, num_hidden_layers=3,
        num_attention_heads=8, intermediate_size=512, max_position_embeddings=66,
        type_vocab_size=1, layer_norm_eps=1e-5,
    ),
    "xlm-roberta": dict(
        family="xlm-roberta", vocab_size=257, hidden_size=40, num_hidden_layers=2,
        num_attention_heads=5, intermediate_size=64, max_position_embeddings=26,
        type_vocab_size=1, layer_norm_eps=1e-5,
    ),
    "bert": dict(
        family="bert", vocab_size=128, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, max_position_embeddings=24,
        type_vocab_size=2, layer_norm_eps=1e-12,
    ),
}  # fmt: skip
PLAIN = "roberta, 2 layers"


def make_peer(name=PLAIN, task="masked_lm", seed=0, **changes):
    """A model of transformers without dropout, every weight of it at random, LayerNorms too."""
    values = {**MODELS[name], **changes}
    family = values.pop("family")
    torch.manual_seed(seed)
    config = CONFIGS[family](hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **values)
    config._attn_implementation = "eager"
    model = getattr(transformers, class_name(family, task))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def family_of_peer(peer):
    return peer.config.model_type


def tensors_of_peer(peer):
    return {name: tensor.detach().numpy() for name, tensor in peer.state_dict().items()}


def read_peer(tensors, config, family, head=None):
    readers = {name: (lambda array=array: array) for name, array in tensors.items()}
    params, _ = read_weights(readers, config, family, "the peer", head=head)
    return jax.tree.map(jnp.asarray, params)


def ours(peer, head=None):
    """(config, params) of the same model here."""
    config = encoder_config(peer.config.to_dict(), "the peer")
    return config, read_peer(tensors_of_peer(peer), config, family_of_peer(peer), head)


def make_rows(peer, seed=0, num_rows=3, length=None, left=False):
    """Rows of tokens [B, T], padding at the end of the second, or in front; and their types."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    config = peer.config
    offset = 0 if config.model_type == "bert" else 2
    length = length or config.max_position_embeddings - offset
    tokens = generator.integers(4, config.vocab_size, (num_rows, length)).astype(np.int32)
    tokens[1, slice(0, 5) if left else slice(length - 5, length)] = config.pad_token_id
    types = generator.integers(0, config.type_vocab_size, tokens.shape).astype(np.int32)
    return tokens, types


def torch_inputs(peer, tokens, types):
    return {
        "input_ids": torch.tensor(tokens, dtype=torch.long),
        "attention_mask": torch.tensor(tokens != peer.config.pad_token_id, dtype=torch.long),
        "token_type_ids": torch.tensor(types, dtype=torch.long),
    }


def states_and_logits(config, params, tokens, types, segments=None):
    """Every hidden state [L + 1, B, T, D] and the logits [B, T, V] of our model."""

    @jax.jit
    def run(params):
        model = bind(config, params)
        states, _ = model.trace(tokens, token_types=types, segments=segments)
        return states, model.project(states[-1])[..., : config.vocab_size]

    return tuple(map(np.asarray, run(params)))


def task_scores(config, head, params, tokens, types):
    return bind_task(config, head, params)(jnp.asarray(tokens), token_types=jnp.asarray(types))
