import itertools

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import chisquare
from torch.nn.functional import log_softmax

from passk_lab.lab import _decoding, sampling
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.lab.sampling import Decoding, score
from tests.helpers import refuses

PAD, EOS = 0, 1
VOCABULARY = 12


def tiny_llama(seed=0, spread=0.3, **changes):
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2} | changes
    config = ModelConfig(VOCABULARY, context_length=48, initializer_range=spread, **sizes)
    return build_model(config, seed)


def tiny(kind, **changes):
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    sizes |= {"vocab_size": VOCABULARY, "hidden_size": 32, "initializer_range": 0.3} | changes
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **sizes)
    ).eval()


MODELS = {
    "llama": tiny_llama,
    "llama, untied, all heads": lambda: tiny_llama(n_kv_heads=None, tie_embeddings=False),
    "llama, one head of keys": lambda: tiny_llama(n_kv_heads=1),
    "gpt_neox": lambda: tiny("gpt_neox"),
    "bloom": lambda: tiny("bloom", n_layer=2, n_head=4),  # positions from the mask alone
    "qwen2": lambda: tiny("qwen2", num_key_value_heads=2),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def random_sequences(n, low, high, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, VOCABULARY, rng.integers(low, high)).tolist() for _ in range(n)]


def sample(model, prompts, n_per_prompt, max_new_tokens, generator=None, eos_id=EOS, **options):
    decoding = Decoding(max_new_tokens, eos_id, PAD, **options)
    return sampling.sample(model, prompts, n_per_prompt, decoding, generator)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain_logits(model, prompt, answer):
    """Logits [T, V] by one forward pass of one row: no cache, no padding."""
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0].float()
    return logits[len(prompt) - 1 : -1]


def same_samples(one, other, atol=1e-5):
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.mask, other.mask)
    torch.testing.assert_close(one.logprob, other.logprob, atol=atol, rtol=0)
    torch.testing.assert_close(one.entropy, other.entropy, atol=atol, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_follow_the_exact_distribution(temperature):
    model, prompt, n = tiny_llama(spread=0.2), [3, 7, 4], 20_000
    drawn = sample(
        model, [prompt], n, 2, temperature=temperature, generator=seeded(), batch_rows=4096
    )
    answers = [[EOS], *([a, b] for a, b in itertools.product(range(VOCABULARY), repeat=2))]
    answers = [answer for answer in answers if len(answer) == 1 or answer[0] != EOS]
    with torch.no_grad():
        logprobs = [log_softmax(plain_logits(model, prompt, a) / temperature, -1) for a in answers]
    exact = [
        float(rows[range(len(a)), a].sum().exp()) for a, rows in zip(answers, logprobs, strict=True)
    ]
    assert sum(exact) == pytest.approx(1.0, abs=1e-5)
    index = {tuple(answer): place for place, answer in enumerate(answers)}
    counts = np.bincount([index[tuple(a)] for a in drawn.answers()], minlength=len(answers))
    expected = n * np.array(exact) / sum(exact)
    rare = expected < 5
    assert rare.mean() < 0.5
    pooled = [np.append(x[~rare], x[rare].sum()) for x in (counts, expected)]
    assert chisquare(*pooled).pvalue > 1e-3


def test_numbers_agree_with_plain_forward_passes(model):
    prompts = random_sequences(5, 2, 9)
    drawn = sample(model, prompts, 4, 7, temperature=0.8, generator=seeded())
    assert drawn.tokens.shape == (20, int(drawn.mask.sum(1).max()))
    for row, answer in enumerate(drawn.answers()):
        with torch.no_grad():
            logprobs = log_softmax(plain_logits(model, prompts[row // 4], answer) / 0.8, dim=-1)
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        n = len(answer)
        torch.testing.assert_close(
            drawn.logprob[row, :n], logprobs[range(n), answer], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(drawn.entropy[row, :n], entropy, atol=1e-5, rtol=0)
        assert EOS not in answer[:-1]
        assert answer[-1] == EOS or n == 7
    for values, blank in ((drawn.tokens, PAD), (drawn.logprob, 0), (drawn.entropy, 0)):
        assert (values[~drawn.mask] == blank).all()


def test_batches_and_their_padding_change_nothing(model):
    prompts = [*random_sequences(6, 2, 20), *random_sequences(2, 2, 20)]  # two occur twice
    whole = sample(model, prompts, 5, 6, generator=seeded())
    for batch_rows in (1, 3, 8, 23):
        part = sample(model, prompts, 5, 6, generator=seeded(), batch_rows=batch_rows)
        same_samples(whole, part)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("most_rows", [1, 2, 1000])
def test_how_rows_are_decoded_changes_nothing(model, share, most_rows, monkeypatch):
    """When rows that ended are dropped, and how many beginnings run at a time."""
    prompts = random_sequences(4, 2, 9)
    usual = sample(model, prompts, 8, 8, generator=seeded())
    assert len(set(usual.mask.sum(1).tolist())) > 2  # rows do end at different times
    monkeypatch.setattr(_decoding, "_MOST_ROWS", most_rows)
    for kind in (_decoding.LlamaDecoder, _decoding.CacheDecoder):
        monkeypatch.setattr(kind, "drop_share", share)
    same_samples(usual, sample(model, prompts, 8, 8, generator=seeded()))


def test_the_generator_decides():
    model, prompts = tiny_llama(), random_sequences(3, 2, 6)
    state = torch.get_rng_state()
    generator = seeded(5)
    first = sample(model, prompts, 4, 6, generator=generator)
    second = sample(model, prompts, 4, 6, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.answers() != second.answers()
    same_samples(first, sample(model, prompts, 4, 6, generator=seeded(5)), atol=0)
    torch.manual_seed(9)
    third = sample(model, prompts, 4, 6)
    torch.manual_seed(9)
    same_samples(third, sample(model, prompts, 4, 6), atol=0)


def test_samples_can_be_used_in_a_loss():
    model, prompts = tiny_llama(), random_sequences(3, 2, 6)
    drawn = sample(model, prompts, 2, 5, generator=seeded())
    owners = [prompt for prompt in prompts for _ in range(2)]
    logits = score(model, owners, drawn.answers(), PAD, return_logits=True)
    logprob = log_softmax(logits, -1).gather(-1, drawn.tokens[..., None])[..., 0]
    loss = -((logprob - drawn.logprob).exp() * drawn.entropy * drawn.mask).sum()
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_training_mode_is_left_as_it_was():
    model = tiny_llama().train()
    sample(model, [[3]], 1, 2)
    assert model.training


def count_tokens(model):
    counts = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: counts.append(inputs[0].numel())
    )
    return counts, hook


def test_each_prompt_runs_once():
    model, prompts = tiny_llama(), random_sequences(3, 2, 9)
    counts, hook = count_tokens(model)
    sample(model, [*prompts, *prompts], 50, 1, batch_rows=64)
    hook.remove()
    assert sum(counts) == sum(len(prompt) for prompt in prompts)


def test_each_beginning_of_an_answer_runs_once(monkeypatch):
    monkeypatch.setattr(_decoding, "_MOST_ROWS", 1000)
    model, prompts = tiny_llama(spread=0.5), random_sequences(3, 2, 9)
    counts, hook = count_tokens(model)
    drawn = sample(model, prompts, 40, 5, generator=seeded())
    hook.remove()
    beginnings = {
        (row // 40, *answer[:n])
        for row, answer in enumerate(drawn.answers())
        for n in range(1, min(len(answer) + 1, 5))
        if answer[n - 1] != EOS
    }
    assert len(beginnings) < 0.8 * sum(len(answer) - 1 for answer in drawn.answers())
    assert sum(counts) == sum(len(prompt) for prompt in prompts) + len(beginnings)


def test_llama_has_the_fast_decoder():
    decoder = _decoding.start_decoding(tiny_llama(), [[3]], PAD, room=6)(torch.tensor([0]))
    assert isinstance(decoder, _decoding.LlamaDecoder)


@pytest.mark.parametrize("batch_rows", [3, 1000])
def test_score_agrees_with_plain_forward_passes(model, batch_rows):
    prompts = random_sequences(4, 2, 12)
    owners = [prompts[i] for i in (0, 1, 1, 2, 0, 3, 1)]
    answers = random_sequences(7, 1, 8, seed=1)
    with torch.no_grad():
        logits = score(
            model, owners, answers, PAD, temperature=0.7, return_logits=True, batch_rows=batch_rows
        )
        logprob = score(model, owners, answers, PAD, temperature=0.7, batch_rows=batch_rows)
    assert logits.shape == (7, max(map(len, answers)), VOCABULARY)
    for row, (prompt, answer) in enumerate(zip(owners, answers, strict=True)):
        n = len(answer)
        with torch.no_grad():
            plain = plain_logits(model, prompt, answer) / 0.7
        torch.testing.assert_close(logits[row, :n], plain, atol=2e-5, rtol=1e-5)
        expected = log_softmax(plain, -1)[range(n), answer]
        torch.testing.assert_close(logprob[row, :n], expected, atol=1e-5, rtol=0)
        assert not logits[row, n:].any()
        assert not logprob[row, n:].any()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_gradients_agree_with_plain_forward_passes(model):
    prompts = random_sequences(3, 2, 12)
    owners = [prompts[i] for i in (0, 1, 1, 2, 0)]
    answers = random_sequences(5, 1, 8, seed=1)
    plain = sum(
        log_softmax(plain_logits(model, p, a), -1)[range(len(a)), a].sum()
        for p, a in zip(owners, answers, strict=True)
    )
    expected = gradients(model, plain)
    got = gradients(model, score(model, owners, answers, PAD).sum())
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


FEW_SHOT = [[5, 6, 7, 8, 5, 6, *tail] for tail in ([2], [2, 3], [4, 4, 4], [2])]


@pytest.mark.parametrize("nodes", [1, 20, 1000])
def test_a_tree_of_tokens_changes_nothing(model, nodes, monkeypatch):
    """Beginnings that run once: samples, log-probabilities, logits and gradients stay."""
    monkeypatch.setattr(sampling, "_TREE_NODES", nodes)
    drawn = [
        sample(model, FEW_SHOT, 5, 6, generator=seeded(), as_tree=tree) for tree in (False, True)
    ]
    same_samples(*drawn)
    owners, answers = [p for p in FEW_SHOT for _ in range(5)], drawn[0].answers()
    for return_logits in (False, True):
        both = [
            score(model, owners, answers, PAD, 0.7, return_logits, as_tree=tree)
            for tree in (False, True)
        ]
        torch.testing.assert_close(*both, atol=2e-5, rtol=1e-5)
        weight = torch.randn(both[0].shape, generator=seeded())
        torch.testing.assert_close(
            *(gradients(model, (x * weight).sum()) for x in both), atol=2e-4, rtol=1e-4
        )


def test_a_tree_runs_each_beginning_once(monkeypatch):
    ran = []
    original = _decoding._llama

    def counted(model, tokens, *rest, **more):
        ran.append(len(tokens))
        return original(model, tokens, *rest, **more)

    monkeypatch.setattr(_decoding, "_llama", counted)
    with torch.no_grad():
        score(
            tiny_llama(), FEW_SHOT, [[9, 9, EOS], [9, EOS], [EOS], [9, 4, EOS]], PAD, as_tree=True
        )
    assert ran == [6 + 5 + 4]  # shots; 2, 3, 4, 4, 4; after 2: 9, 9 and 4; after 2, 3: 9


def test_gradient_checkpointing_gives_the_same_gradients():
    model, prompt = tiny_llama(), [3, 4, 5]
    answers = random_sequences(4, 2, 6)
    expected = gradients(model, score(model, [prompt] * 4, answers, PAD).sum())
    model.gradient_checkpointing_enable()
    model.train()
    got = gradients(model, score(model, [prompt] * 4, answers, PAD).sum())
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_several_end_tokens():
    model, ends = tiny_llama(), {EOS, 4}
    drawn = sample(model, [[3]], 200, 8, seeded(), eos_id=ends)
    last = {answer[-1] for answer in drawn.answers() if len(answer) < 8}
    assert last == ends
    assert not any(ends & set(answer[:-1]) for answer in drawn.answers())


def test_a_prompt_longer_than_the_context_names_both_lengths():
    model = tiny_llama()
    said = "prompt {} has {} tokens and its answer up to {}.*of 48"
    refuses(said.format(1, 45, 6), sample, model, [[3], [3] * 45], 1, 6)
    refuses(said.format(0, 47, 2), score, model, [[3] * 47], [[4, 5]], PAD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": [[3], []]}, "prompt 1 is empty"),
        ({"n_per_prompt": 0}, "n_per_prompt must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"batch_rows": 0}, "batch_rows must be at least 1"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_bad_arguments_of_sample(changes, message):
    arguments = {"prompts": [[3]], "n_per_prompt": 1, "max_new_tokens": 2}
    refuses(message, sample, tiny_llama(), **arguments | changes)


@pytest.mark.parametrize(
    ("prompts", "answers", "message"),
    [
        ([[3]], [], "1 prompts but 0 answers"),
        ([], [], "there are no answers"),
        ([[3], [4]], [[5], []], "answer 1 is empty"),
    ],
)
def test_bad_arguments_of_score(prompts, answers, message):
    refuses(message, score, tiny_llama(), prompts, answers, PAD)


def test_weights_that_are_nan_are_reported():
    model = tiny_llama()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    refuses("NaN", sample, model, [[3]], 2, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_numbers_on_a_gpu(model):
    prompts = random_sequences(6, 2, 12)
    on_cpu = sample(model, prompts, 4, 6, generator=seeded())
    on_gpu = sample(model.to("cuda"), prompts, 4, 6, generator=seeded())
    model.to("cpu")
    assert torch.equal(on_cpu.tokens, on_gpu.tokens.cpu())
    torch.testing.assert_close(on_cpu.logprob, on_gpu.logprob.cpu(), atol=1e-4, rtol=0)
