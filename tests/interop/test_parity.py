"""The numbers are those of transformers: states, logits, losses, gradients, updates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from roberta_jax import config as config_lib  # noqa: E402
from roberta_jax.data.rows import NextSentence  # noqa: E402
from roberta_jax.encoder import heads as heads_module  # noqa: E402
from roberta_jax.encoder import layer as layer_module  # noqa: E402
from roberta_jax.encoder.dropout import dropout, site_keys  # noqa: E402
from roberta_jax.encoder.layer import Layer  # noqa: E402
from roberta_jax.encoder.model import bind, count_params  # noqa: E402
from roberta_jax.encoder.task_model import TaskHead  # noqa: E402
from roberta_jax.interop.names import PRETRAINING, tensor_name  # noqa: E402
from roberta_jax.objective.loss import cross_entropy, masked_lm_sums  # noqa: E402
from roberta_jax.objective.next_sentence import next_sentence_sums  # noqa: E402
from roberta_jax.optim.optimizer import apply_updates, make_optimizer  # noqa: E402
from roberta_jax.optim.schedule import Stretch, make_schedule  # noqa: E402
from roberta_jax.parallel.tables import path_name  # noqa: E402
from tests.interop import peers  # noqa: E402

pytestmark = pytest.mark.parity

# What the issue of exactness asks for.
STATES_ATOL = 2e-5
LOSS_RTOL = 1e-6
GRADIENT_RTOL = 1e-4
UPDATES_RTOL = 1e-4

# The parts of packed rows of 24 tokens.
SEGMENTS = np.repeat([[1, 2, 3]], 3, axis=0).repeat((9, 8, 7), axis=1)


def inputs_of(peer, config, tokens, types, segments=None):
    """What torch's model takes: for packed rows, a mask in blocks and positions that restart."""
    inputs = peers.torch_inputs(peer, tokens, types)
    if segments is not None:
        offset = config.position_offset
        inputs["attention_mask"] = torch.where(
            torch.tensor(segments[:, None, :, None] == segments[:, None, None, :])
            & inputs["attention_mask"].bool()[:, None, None, :],
            0.0,
            torch.finfo(torch.float32).min,
        )
        places = np.stack(
            [np.concatenate([np.arange(n) for n in counts]) for counts in _runs(segments)]
        )
        pad = peer.config.pad_token_id
        inputs["position_ids"] = torch.tensor(np.where(tokens == pad, pad, places + offset))
    return inputs


def assert_states_agree(peer, config, params, segments=None, length=None, left=False):
    """Embeddings, every layer and the logits, where there are tokens."""
    tokens, types = peers.make_rows(peer, length=length, left=left)
    inputs = inputs_of(peer, config, tokens, types, segments)
    with torch.no_grad():
        theirs = peer(**inputs, output_hidden_states=True)
    states, logits = peers.states_and_logits(config, params, tokens, types, segments)
    real = tokens != peer.config.pad_token_id
    assert len(states) == len(theirs.hidden_states) == config.num_layers + 1
    for depth, (found, wanted) in enumerate(zip(states, theirs.hidden_states, strict=True)):
        np.testing.assert_allclose(
            found[real], wanted.numpy()[real], rtol=0, atol=STATES_ATOL, err_msg=f"state {depth}"
        )
    np.testing.assert_allclose(
        logits[real], theirs.logits.numpy()[real], rtol=0, atol=STATES_ATOL, err_msg="logits"
    )


def _runs(segments):
    """Lengths of the runs of equal numbers in every row."""
    for row in segments:
        borders = np.flatnonzero(np.diff(row)) + 1
        yield np.diff([0, *borders, len(row)])


@pytest.mark.parametrize("name", peers.MODELS)
@pytest.mark.parametrize("length", [7, None], ids=["short", "longest"])
def test_states_and_logits(name, length):
    peer = peers.make_peer(name)
    assert_states_agree(peer, *peers.ours(peer), length=length)


@pytest.mark.parametrize("name", ["roberta, 2 layers", "bert"])
def test_packed_rows(name):
    peer = peers.make_peer(name)
    assert_states_agree(peer, *peers.ours(peer), segments=SEGMENTS)


@pytest.mark.parametrize("name", ["roberta, 2 layers", "bert"])
def test_padding_in_front(name):
    peer = peers.make_peer(name)
    assert_states_agree(peer, *peers.ours(peer), left=True)


# ---- Losses, gradients, updates -----------------------------------------------------------------


def masked_positions(peer, tokens, seed=1):
    """Positions [B, M] of predictions and their targets, and torch's labels [B, T]."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    positions = np.stack([generator.permutation(tokens.shape[1] - 5)[:4] for _ in tokens])
    targets = generator.integers(0, peer.config.vocab_size, positions.shape)
    labels = np.full(tokens.shape, -100)
    np.put_along_axis(labels, positions, targets, axis=1)
    return positions.astype(np.int32), targets.astype(np.int32), torch.tensor(labels)


def masked_lm_loss(config, tokens, types, positions, targets, segments=None):
    def loss(params):
        model = bind(config, params)
        logits = model(tokens, positions, token_types=types, segments=segments)
        sums = masked_lm_sums(logits, targets, jnp.ones(targets.shape))
        return sums.loss / sums.count

    return jax.jit(jax.value_and_grad(loss))


def gradients_of_peer(peer, config, like, head=None):
    """The gradients of the peer's parameters in our tree; a tied copy has none of its own."""
    tensors = {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).numpy()
        for name, p in peer.named_parameters(remove_duplicate=False)
    }
    found = peers.read_peer(tensors, config, peers.family_of_peer(peer), head)
    assert jax.tree.structure(found) == jax.tree.structure(like)
    return found


def assert_close_by_norm(found, wanted, tolerance):
    largest = max(float(np.linalg.norm(leaf)) for leaf in jax.tree.leaves(wanted))
    for (path, left), right in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True
    ):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        # What is 0 but for rounding (the bias of a choice, alike for all choices) has no norm.
        allowed = tolerance * np.linalg.norm(right) + 1e-7 * largest
        assert np.linalg.norm(left - right) <= allowed, path_name(path)


def assert_gradients_agree(found, wanted):
    """All but the key's bias, whose gradient is 0 and of which rounding is all there is."""
    assert_close_by_norm(*(_without_key_bias(tree) for tree in (found, wanted)), GRADIENT_RTOL)
    bias = np.abs(found["layers"]["attention"]["key"]["bias"]).max()
    assert bias < 1e-4 * np.abs(found["layers"]["attention"]["query"]["bias"]).max()


def _without_key_bias(tree):
    attention = tree["layers"]["attention"]
    key = {"kernel": attention["key"]["kernel"]}
    return {**tree, "layers": {**tree["layers"], "attention": {**attention, "key": key}}}


@pytest.mark.parametrize(
    ("name", "segments"),
    [*((name, None) for name in peers.MODELS), (peers.PLAIN, SEGMENTS), ("bert", SEGMENTS)],
    ids=[*peers.MODELS, "roberta, packed", "bert, packed"],
)
def test_loss_and_gradients(name, segments):
    peer = peers.make_peer(name)
    config, params = peers.ours(peer)
    tokens, types = peers.make_rows(peer)
    positions, targets, labels = masked_positions(peer, tokens)
    theirs = peer(**inputs_of(peer, config, tokens, types, segments), labels=labels).loss
    theirs.backward()
    run = masked_lm_loss(config, tokens, types, positions, targets, segments)
    loss, gradients = run(params)
    assert float(loss) == pytest.approx(theirs.item(), rel=LOSS_RTOL)
    assert_gradients_agree(gradients, gradients_of_peer(peer, config, params))


def test_ten_updates_of_adamw():
    peer = peers.make_peer()
    config, params = peers.ours(peer)
    settings = config_lib.OptimizerConfig(peak_learning_rate=3e-3, weight_decay=0.1)
    optimizer = make_optimizer(settings)
    stretch = Stretch(
        first_step=0, end_step=20, peak_learning_rate=3e-3, warmup_steps=4, decay_steps=0
    )
    rate = make_schedule(config_lib.ScheduleConfig(), [stretch])
    decayed = [
        p
        for name, p in peer.named_parameters()
        if "bias" not in name and "Norm" not in name and "layer_norm" not in name
    ]
    others = [p for p in peer.parameters() if not any(p is other for other in decayed)]
    theirs = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
    )
    begin, state = params, optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(10):
        tokens, types = peers.make_rows(peer, seed=step)
        positions, targets, labels = masked_positions(peer, tokens, seed=100 + step)
        for group in theirs.param_groups:
            group["lr"] = float(rate(np.int32(step)))
        theirs.zero_grad()
        peer(**peers.torch_inputs(peer, tokens, types), labels=labels).loss.backward()
        theirs.step()
        _, gradients = masked_lm_loss(config, tokens, types, positions, targets)(params)
        learning_rate = rate(np.int32(step))
        updates, state = update(gradients, state, params, learning_rate=learning_rate)
        params = apply_updates(params, updates)
    wanted = peers.ours(peer)[1]
    moved = jax.tree.map(lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b), wanted, begin)
    assert min(jax.tree.leaves(_without_key_bias(moved))) > 1e-3  # Far more than the tolerance.
    # Adam divides the key bias's rounding by its own size: its steps mean nothing.
    assert_close_by_norm(_without_key_bias(params), _without_key_bias(wanted), UPDATES_RTOL)


# ---- Next sentence ------------------------------------------------------------------------------


def test_next_sentence_logits_loss_and_gradients():
    """BertForPreTraining's loss is the sum of both means."""
    peer = peers.make_peer("bert", PRETRAINING)
    peer.config.architectures = ["BertForPreTraining"]
    config, params = peers.ours(peer)
    assert config.next_sentence_head
    tokens, types = peers.make_rows(peer)
    positions, targets, labels = masked_positions(peer, tokens)
    next_sentence = np.array([[NextSentence.NEXT], [NextSentence.RANDOM], [NextSentence.RANDOM]])
    their_labels = torch.tensor(next_sentence[:, 0] == NextSentence.RANDOM).long()  # 0: is next.
    theirs = peer(
        **peers.torch_inputs(peer, tokens, types), labels=labels, next_sentence_label=their_labels
    )
    theirs.loss.backward()
    starts = np.zeros((3, 1), np.int32)

    def run(params):
        model = bind(config, params)
        logits, next_logits = model.outputs(tokens, positions, token_types=types, starts=starts)
        masked = masked_lm_sums(logits, targets, jnp.ones(targets.shape))
        pairs = next_sentence_sums(next_logits, next_sentence)
        return masked.loss / masked.count + pairs.loss / pairs.count, next_logits

    (loss, found), gradients = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    wanted = theirs.seq_relationship_logits.detach().numpy()
    np.testing.assert_allclose(found[:, 0], wanted, rtol=0, atol=STATES_ATOL)
    assert float(loss) == pytest.approx(theirs.loss.item(), rel=LOSS_RTOL)
    assert_gradients_agree(gradients, gradients_of_peer(peer, config, params))


# ---- Heads of tasks -----------------------------------------------------------------------------

HEADS = {
    "classification": TaskHead(task="classification", num_outputs=3, dropout_rate=0.0),
    "choice": TaskHead(task="choice", num_outputs=1, dropout_rate=0.0),
    "span": TaskHead(task="span", num_outputs=2, dropout_rate=0.0),
    "tokens": TaskHead(task="tokens", num_outputs=3, dropout_rate=0.0),
}


def task_losses(task, peer, config, tokens, types):
    """(theirs, a function of our params) with the same labels; both give (loss, scores)."""
    head, inputs = HEADS[task], peers.torch_inputs(peer, tokens, types)
    labels = np.array([0, 2, 1, 1])[: len(tokens)]
    if task == "choice":  # Two questions with two choices each.
        inputs = {name: value.reshape(2, 2, -1) for name, value in inputs.items()}
        labels = np.array([1, 0])
    if task == "tokens":
        labels = np.where(tokens == peer.config.pad_token_id, -100, tokens.astype(np.int64) % 3)
    if task == "span":
        ends = labels + 3
        answer = peer(
            **inputs, start_positions=torch.tensor(labels), end_positions=torch.tensor(ends)
        )
        their_scores = torch.stack([answer.start_logits, answer.end_logits], -1)
    else:
        answer = peer(**inputs, labels=torch.tensor(labels))
        their_scores = answer.logits

    def loss(params):
        scores = peers.task_scores(config, head, params, tokens, types)
        if task == "choice":
            scores = scores.reshape(2, 2)
        if task == "span":
            first = cross_entropy(scores[..., 0], jnp.asarray(labels)).mean()
            return (first + cross_entropy(scores[..., 1], jnp.asarray(ends)).mean()) / 2, scores
        if task == "tokens":
            kept = labels >= 0
            losses = cross_entropy(scores, jnp.asarray(np.maximum(labels, 0)))
            return (losses * kept).sum() / kept.sum(), scores
        return cross_entropy(scores, jnp.asarray(labels)).mean(), scores

    return (answer.loss, their_scores), jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("name", ["roberta, 2 layers", "bert"])
@pytest.mark.parametrize("task", HEADS)
def test_heads(task, name):
    head = HEADS[task]
    peer = peers.make_peer(name, task, num_labels=head.num_outputs, classifier_dropout=0.0)
    config, params = peers.ours(peer, head)
    tokens, types = peers.make_rows(peer, num_rows=4)
    if task == "span":
        # transformers has padding in the softmax over places, and no gradient of its position.
        tokens[1] = tokens[0][::-1]
    (their_loss, their_scores), run = task_losses(task, peer, config, tokens, types)
    their_loss.backward()
    (loss, scores), gradients = run(params)
    real = tokens != peer.config.pad_token_id if scores.ndim == 3 else ...
    np.testing.assert_allclose(
        np.asarray(scores)[real], their_scores.detach().numpy()[real], rtol=0, atol=STATES_ATOL
    )
    assert float(loss) == pytest.approx(their_loss.item(), rel=LOSS_RTOL)
    assert_gradients_agree(gradients, gradients_of_peer(peer, config, params, head))


# ---- The tolerances can fail --------------------------------------------------------------------


def tanh_gelu(x):
    return jax.nn.gelu(x, approximate=True)


def pre_norm(self, x, visible, keys):
    attended = self.attention(self.attention_norm(x), visible, site_keys(keys, 0))
    x = x + dropout(attended, site_keys(keys, 1), self.dropout_rate)
    return x + self.mlp(self.mlp_norm(x), site_keys(keys, 3))


def test_a_wrong_epsilon_is_caught():
    peer = peers.make_peer()
    config, params = peers.ours(peer)
    for epsilon in (1e-6, 1e-12, 2e-5):
        wrong = dataclasses.replace(config, layer_norm_epsilon=epsilon)
        with pytest.raises(AssertionError, match="state 0"):
            assert_states_agree(peer, wrong, params)


def test_the_other_gelu_is_caught(monkeypatch):
    peer = peers.make_peer()
    config, params = peers.ours(peer)
    with monkeypatch.context() as context:
        context.setattr(layer_module, "gelu", tanh_gelu)
        with pytest.raises(AssertionError, match="state 1"):
            assert_states_agree(peer, config, params)
    monkeypatch.setattr(heads_module, "gelu", tanh_gelu)
    with pytest.raises(AssertionError, match="logits"):
        assert_states_agree(peer, config, params)


def test_another_first_position_is_caught():
    peer = peers.make_peer()
    config, params = peers.ours(peer)
    for offset in (0, 1):
        wrong = dataclasses.replace(config, position_offset=offset)
        with pytest.raises(AssertionError, match="state 0"):
            assert_states_agree(peer, wrong, params)


def test_another_order_of_norm_and_sum_is_caught(monkeypatch):
    peer = peers.make_peer()
    config, params = peers.ours(peer)
    monkeypatch.setattr(Layer, "__call__", pre_norm)
    with pytest.raises(AssertionError, match="state 1"):
        assert_states_agree(peer, config, params)


def test_a_head_without_its_bias_is_caught():
    peer = peers.make_peer()
    config, params = peers.ours(peer)
    params["head"]["bias"] = jnp.zeros_like(params["head"]["bias"])
    with pytest.raises(AssertionError, match="logits"):
        assert_states_agree(peer, config, params)


def test_a_gradient_that_is_off_by_little_is_caught():
    peer = peers.make_peer()
    _, params = peers.ours(peer)
    near = jax.tree.map(lambda leaf: leaf * (1 + 2e-4), params)
    with pytest.raises(AssertionError):
        assert_close_by_norm(near, params, GRADIENT_RTOL)


# ---- Sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "layers", "heads", "count"),
    [(768, 12, 12, 124_696_665), (1024, 24, 16, 355_411_033)],
    ids=["base", "large"],
)
def test_counts_of_parameters(hidden, layers, heads, count):
    """Ours, and theirs without the one token type that RoBERTa does not use."""
    transformers = pytest.importorskip("transformers")
    encoder = config_lib.EncoderConfig(
        vocab_size=50_265,
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        mlp_size=4 * hidden,
    )
    assert count_params(encoder) == count
    with torch.device("meta"):
        peer = transformers.RobertaForMaskedLM(
            transformers.RobertaConfig(
                hidden_size=hidden,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=4 * hidden,
                max_position_embeddings=514,
                type_vocab_size=1,
            )
        )
    assert sum(p.numel() for p in peer.parameters()) - hidden == count
    names = {name for name, _ in peer.named_parameters()}
    assert tensor_name("layers/mlp/up/kernel", "roberta").name.format(layer=0) in names
