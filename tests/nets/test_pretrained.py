"""WavLM, HuBERT and wav2vec 2.0: the same numbers as transformers for a clip alone, and as the released UrgentMOS."""

import copy
import json

import pytest
import torch

from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.encoders import build_encoder
from urgentmos.nets.pretrained import conv_field, conv_frames

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def wave(n: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, n, generator=torch.Generator().manual_seed(seed))


def build(kind: str, **more):
    torch.manual_seed(5)
    encoder = build_encoder(EncoderConfig("ssl", model={"model_type": kind, **TINY, **more}))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def original(encoder, kind: str, **more):
    """The class of transformers itself, with the weights of `encoder`: shows that ours has its names."""
    import transformers

    settings = transformers.AutoConfig.for_model(kind, **TINY, **more)
    model = transformers.AutoModel.from_config(settings).eval()
    state = {name.removeprefix("model."): tensor for name, tensor in encoder.state_dict().items() if name != "weights"}
    model.load_state_dict(state, strict=True)
    return model


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
@pytest.mark.parametrize("norms", ["group", "layer"])
def test_states_are_those_of_transformers(kind, norms):
    more = LARGE if norms == "layer" else {}
    encoder, x = build(kind, **more), wave(20_000)
    model = original(encoder, kind, **more)
    with torch.inference_mode():
        out = model(x, output_hidden_states=True)
        ours = encoder.states(x, torch.tensor([20_000]))
        assert len(ours) == len(out.hidden_states) == 4
        for state, wanted in zip(ours, out.hidden_states, strict=True):
            torch.testing.assert_close(state, wanted, atol=2e-5, rtol=1e-5)
        last = build_encoder(EncoderConfig("ssl", layers="last", model={"model_type": kind, **TINY, **more}))
        last.load_state_dict({k: v for k, v in encoder.state_dict().items() if k != "weights"})
        torch.testing.assert_close(last(x, torch.tensor([20_000]))[0], out.last_hidden_state, atol=2e-5, rtol=1e-5)
        # With norms first, the last state is the one before the final norm.
        same = torch.allclose(ours[-1], out.last_hidden_state, atol=1e-3)
        assert same == (norms == "group")


@pytest.mark.parametrize("n", [400, 719, 720, 16_000, 16_001, 33_333])
def test_frames_are_counted_as_transformers_counts_them(n):
    encoder = build("wavlm")
    wanted = int(encoder.model._get_feat_extract_output_lengths(torch.tensor([n])))
    assert encoder.n_frames(torch.tensor([n])).tolist() == [wanted] == [encoder.states(wave(n), torch.tensor([n]))[0].shape[1]]
    assert wanted == (n - 400) // 320 + 1


def test_the_field_of_one_frame_is_the_fewest_samples_that_give_one():
    kernels, strides = [10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2]
    field = conv_field(kernels, strides)
    assert field == 400
    assert conv_frames(torch.tensor([field - 1, field]), kernels, strides).tolist() == [0, 1]


def test_padding_does_change_the_library_itself():
    """Without this the tests of batch invariance would show nothing."""
    encoder, x = build("wavlm"), wave(9000)
    model = original(encoder, "wavlm")
    with torch.inference_mode():
        longer = torch.cat([x, torch.zeros(1, 9000)], dim=1)
        frames = model(x).last_hidden_state
        assert (model(longer).last_hidden_state[:, : frames.shape[1]] - frames).abs().max() > 1e-3


def test_a_copy_runs_on_its_own_weights():
    encoder, x, n = build("wavlm"), wave(9000), torch.tensor([9000])
    twin = copy.deepcopy(encoder)
    before = encoder(x, n)[0].clone()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(twin(x, n)[0], before)


def test_a_padded_batch_raises_no_warning(recwarn):
    encoder = build("wavlm")
    batch = torch.cat([wave(9000), wave(9000, 1)])
    encoder.states(batch, torch.tensor([9000, 4000]))
    assert not [w for w in recwarn if "mask" in str(w.message)]


def test_intermediates_of_the_released_urgentmos(shared):
    import numpy as np

    folder = shared / "parity" / "urgentmos_f1c1m5"
    if not folder.is_dir():
        pytest.skip("no reference vectors")
    encoder = build_encoder(EncoderConfig("ssl", model=json.loads((folder / "wavlm_tiny/config.json").read_text())))
    prefix = "feature_extractor.feature_extractors.0."
    state = torch.load(folder / "model.pt", weights_only=True)["model"]
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, strict=True)
    inputs, wanted = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    x = torch.from_numpy(wanted["mid/input_values"])[None]
    other = torch.from_numpy(inputs["audio/a1_sp03noisy_7.77"])[None]
    batch = torch.cat([torch.nn.functional.pad(x, (0, other.shape[1] - x.shape[1]), value=float("nan")), other])
    with torch.inference_mode():
        for state, reference in zip(encoder.states(x, torch.tensor([x.shape[1]])), wanted["mid/hidden_states"], strict=True):
            torch.testing.assert_close(state[0], torch.from_numpy(reference), atol=2e-5, rtol=0)
        frames, n_frames = encoder(batch, torch.tensor([x.shape[1], other.shape[1]]))
    torch.testing.assert_close(frames[0, : n_frames[0]], torch.from_numpy(wanted["mid/aggregated"]), atol=2e-5, rtol=0)
