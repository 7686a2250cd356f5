"""The nets that runs start from: pretrained encoders come from files, nothing is guessed."""

import json

import pytest
import torch
import transformers

from urgentmos.errors import UsageError
from urgentmos.nets.utmos import Utmos, UtmosConfig, to_public
from urgentmos.training.config import make_config
from urgentmos.training.start import start

TINY = {
    "model_type": "wavlm",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
NET = {"dim": 16, "layers": 1, "heads": 2, "feedforward": 16, "preference_heads": 2}


@pytest.mark.parametrize("prefix", ["", "wavlm."])
def test_a_pretrained_encoder_comes_from_its_folder_frozen_in_eval(prefix: str, tmp_path) -> None:
    torch.manual_seed(5)
    model = transformers.WavLMModel(transformers.WavLMConfig(**TINY)).eval()
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    torch.save({prefix + name: x for name, x in model.state_dict().items()}, tmp_path / "pytorch_model.bin")
    config = make_config({"model": "f1c1m1-dref", "net": NET, "encoder_weights": str(tmp_path)})
    net = start(config, ["mos_overall"], True).net.train()
    encoder = net.encoders[0]
    assert not any(module.training for module in encoder.modules())
    assert [name for name, p in encoder.named_parameters() if p.requires_grad] == ["weights"]
    wave = torch.randn(1, 4000)
    with torch.no_grad():
        states = model(wave, output_hidden_states=True).hidden_states
        found = encoder(wave, torch.tensor([4000]))[0]
    assert torch.allclose(found, torch.stack(states).mean(0), atol=1e-4)  # zero weights are a plain mean


def test_an_encoder_with_a_missing_weight_is_refused(tmp_path) -> None:
    model = transformers.WavLMModel(transformers.WavLMConfig(**TINY))
    state = dict(list(model.state_dict().items())[:-1])
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="1 weights are missing"):
        start(make_config({"model": "f1c1m1-dref", "net": NET, "encoder_weights": str(tmp_path)}), ["mos_overall"], True)


def test_weights_that_are_code_are_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    torch.save({"x": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot be read as weights"):
        start(make_config({"model": "f1c1m1-dref", "net": NET, "encoder_weights": str(tmp_path)}), ["mos_overall"], True)


@pytest.mark.parametrize("tuned", [False, True])
def test_urgent_pk_takes_the_public_utmos_and_tunes_it_only_if_asked(tuned: bool, tmp_path) -> None:
    sizes = UtmosConfig(
        layers=1, hidden=64, feed_forward=16, conv_width=8, position_kernel=8, embedding=4, lstm=8, projection=8
    )
    utmos = Utmos(sizes)
    torch.save(to_public(utmos.state_dict(), sizes), tmp_path / "utmos.pt")
    plain = {"model": "urgent-pk", "encoder_weights": str(tmp_path / "utmos.pt")}
    net = start(make_config({**plain, "net": {"encoder": "utmos", "tune_encoder": tuned, "filters": 4}}), [], True).net.train()
    assert torch.equal(net.encoder.blstm.weight_ih_l0, utmos.blstm.weight_ih_l0)
    assert net.encoder.training is tuned and net.encoder.blstm.weight_ih_l0.requires_grad is tuned


def test_a_net_without_pairs_offers_none() -> None:
    config = make_config({"model": "f1c1m1-dref", "size": "pocket"})
    assert start(config, ["mos_overall"], False).net.ncpm is None and start(config, ["mos_overall"], True).net.ncpm is not None


def test_a_model_goes_on_under_another_dropout_and_with_no_other_sizes() -> None:
    before = start(make_config({"model": "pocket"}), ["pesq"], True).net
    net = start(make_config({"model": "pocket", "net": {"dropout": 0.2}, "encoder": {"dropout": 0.3}}), ["pesq"], True).net
    shares = {module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)}
    assert shares == {0.2, 0.3} and net.config.dropout == 0.2
    assert all(torch.equal(x, y) for x, y in zip(before.state_dict().values(), net.state_dict().values(), strict=True))
    for wrong in ({"net": {"layers": 3}}, {"encoder": {"width": 8}}, {"net": {"dropout": 2}}, {"encoder": {"dropout": "x"}}):
        with pytest.raises(UsageError, match=r"net\.dropout|share below 1"):
            start(make_config({"model": "pocket", **wrong}), ["pesq"], True)


@pytest.mark.parametrize("new", [{"model": "urgent-pk"}, {"model": "f1c1m1-dref", "size": "pocket"}])
def test_a_dropout_that_is_no_share_is_refused(new) -> None:
    with pytest.raises(UsageError, match="share below 1"):
        start(make_config({**new, "net": {"dropout": 2}}), ["mos_overall"], True)
