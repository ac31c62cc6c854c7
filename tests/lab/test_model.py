import numpy as np
import pytest
import torch
import transformers

from passk_lab.lab._decoding import check_context
from passk_lab.lab.model import ModelConfig, build_model, load_model
from tests.helpers import refuses

SMALL = ModelConfig(vocab_size=20, context_length=16, d_model=32, n_layers=2, n_heads=4)


def test_parameters_are_counted_by_formula():
    config = ModelConfig(20, 16, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_multiple=2)
    attention = 32 * 32 * 2 + 32 * 16 * 2
    layer = attention + 3 * 32 * 64 + 2 * 32
    assert build_model(config, 0).num_parameters() == 2 * layer + 32 + 20 * 32


def test_shape_and_kind():
    model = build_model(SMALL, seed=0)
    assert type(model) is transformers.LlamaForCausalLM
    assert model.config._attn_implementation == "sdpa"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert model.config.max_position_embeddings == 16
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 20)


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_tied_on_demand(tied):
    config = ModelConfig(20, 16, d_model=32, n_layers=1, n_heads=4, tie_embeddings=tied)
    model = build_model(config, seed=0)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_only_the_seed_decides_the_weights():
    state = torch.get_rng_state()
    one, same, other = (build_model(SMALL, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
        ({"n_layers": 0}, "n_layers must be at least 1"),
        ({"n_heads": 3}, "n_heads=3 must divide d_model=32"),
        ({"n_heads": 32}, "heads of even width"),
        ({"n_kv_heads": 3}, "n_kv_heads=3 must divide n_heads=4"),
        ({"ffn_multiple": 0.0}, "ffn_multiple"),
        ({"eos_id": 20}, "eos_id=20 is outside the 20 tokens"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    sizes = {"vocab_size": 20, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}
    refuses(message, ModelConfig, **sizes | changes)


def test_a_saved_model_loads_unchanged(tmp_path):
    model = build_model(SMALL, seed=3)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert not again.training
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_other_architectures_load_too(tmp_path):
    sizes = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.GPTNeoXConfig(intermediate_size=32, **sizes)
    transformers.GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    assert isinstance(load_model(str(tmp_path)), transformers.GPTNeoXForCausalLM)


def test_a_folder_without_a_model_says_what_it_has(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    said = r"no {} \(it has: notes\.txt\)"
    missing, named = FileNotFoundError, "weights.gguf"
    refuses(said.format("config.json"), load_model, tmp_path, error=missing)
    refuses(said.format(named), load_model, tmp_path / named, error=missing)


def test_missing_weights_are_refused_and_not_made_up(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    build_model(SMALL, seed=0).save_pretrained(tmp_path)
    weights = safetensors.load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    refuses(r"lacks weights.*model\.layers\.1\.mlp\.up_proj\.weight", load_model, tmp_path)


def write_gguf(model, path):
    """Write a Llama as llama.cpp names and lays out its weights."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        weights = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns neighbours, not halves
            halves = weights.reshape(-1, 2, config.head_dim // 2, weights.shape[1])
            weights = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weights.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_in_a_folder_loads(tmp_path):
    config = ModelConfig(20, 16, d_model=32, n_layers=2, n_heads=4, tie_embeddings=False)
    model = build_model(config, seed=0)
    write_gguf(model, tmp_path / "tiny.gguf")
    again = load_model(tmp_path / "tiny.gguf")
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits)


def test_prompts_are_checked_against_the_context():
    model = build_model(SMALL, seed=0)
    check_context(model, [[1] * 10], [6])
    check_context(model, [[1] * 10, [2] * 3], [6, 13])
    said = "prompt {} has {} tokens and its answer up to {}.*of 16"
    refuses(said.format(0, 10, 7), check_context, model, [[1] * 10], [7])
    refuses(said.format(1, 3, 14), check_context, model, [[1] * 10, [2] * 3], [6, 14])
    refuses("prompt 1 is empty", check_context, model, [[1], []], [1, 1])


def test_a_model_without_a_stated_context_takes_any_length():
    config = transformers.BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)
    check_context(transformers.BloomForCausalLM(config), [[1] * 10_000], [1])
