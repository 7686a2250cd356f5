"""Released URGENT-PK files: read as data, every tensor in its place, the released numbers reproduced."""

import copy
import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.models.official import Released  # noqa: E402
from urgentmos.models.official.urgentpk import matches, read, stubs  # noqa: E402
from urgentmos.models.official.utmos import FILE_NAME  # noqa: E402
from urgentmos.models.torch_file import load_torch_file  # noqa: E402
from urgentmos.nets.urgentpk import UrgentPk, UrgentPkConfig, fused_for_inference, judge_pairs  # noqa: E402
from urgentmos.nets.utmos import UtmosConfig, to_public  # noqa: E402

TINY_UTMOS = UtmosConfig(
    layers=1, hidden=64, feed_forward=24, conv_width=8, position_kernel=4, position_groups=2, embedding=3, lstm=10, projection=6
)
CONFIGS = {
    "mel": UrgentPkConfig(filters=4),
    "mel18": UrgentPkConfig(filters=4, backbone="resnet18"),
    "stft": UrgentPkConfig(filters=4, encoder="stft"),
    "utmos_fix": UrgentPkConfig(filters=4, encoder="utmos", utmos=TINY_UTMOS),
    "utmos_ft": UrgentPkConfig(filters=4, encoder="utmos", utmos=TINY_UTMOS, tune_encoder=True),
}


# The released numbers are compared with ours in float64, which every processor rounds alike: what is left is the rounding of
# the released float32 itself. It is largest where a mel band holds nothing (silence; clips above their band limit): there the
# logarithm is of the Fourier transform's own rounding noise, .05 dB of it, and float32 features alone move an opinion score
# by 1e-3.
PARITY = 2e-5
PARITY_OF_EMPTY_BANDS = {"silence": 1e-4, "real_identical": 5e-5, "probability": 5e-5, "opinion score": 1e-3}
# From float32 to float64 on our side; seen: 4e-5 and 1.3e-3 on a Xeon with AMX.
ROUNDING, ROUNDING_MOS = 1e-4, 3e-3


def released(path: Path) -> Released:
    raw = load_torch_file(path, stubs=stubs)
    assert matches(raw)
    return read(raw, path)


def net_of(found: Released) -> UrgentPk:
    net = UrgentPk(UrgentPkConfig.from_dict(found.config))
    net.load_state_dict(found.state, strict=True)
    return net.eval()


def training_names(state: dict[str, Any]) -> dict[str, Any]:
    """Frames of UTMOS under the names of its authors' training code, with whole tables of domains and judges."""
    names = {}
    for name, tensor in state.items():
        if name in ("domain_emb", "judge_emb"):
            table = torch.full((3 if name == "domain_emb" else 3000, tensor.shape[1]), 7.0)
            table[0 if name == "domain_emb" else 288] = tensor[0]
            module = "feature_extractors.1.embedding" if name == "domain_emb" else "output_layers.0.judge_embedding"
            names[f"{module}.weight"] = table
        elif name.startswith("wav2vec2.") and "mask_emb" not in name:
            names["feature_extractors.0.ssl_model." + name.removeprefix("wav2vec2.")] = tensor
        elif name.startswith("blstm."):
            names["output_layers.0.decoder_rnn." + name.removeprefix("blstm.")] = tensor
    return names


def tensors_of(net: UrgentPk, utmos_names: str = "training") -> dict[str, Any]:
    """The state dict as the authors' Lightning module would have it."""
    state = {f"model.model.{k}": v for k, v in net.state_dict().items() if k.startswith("resnet.")}
    encoder = net.encoder.state_dict()
    if net.config.utmos is not None:
        head = {f"projection.{i}.{p}": torch.zeros(1, 1) for i in (0, 2) for p in ("weight", "bias")}
        encoder = to_public({**encoder, **head}, net.config.utmos)
        encoder = training_names(encoder) if utmos_names == "training" else encoder
        encoder = {} if utmos_names == "absent" else {f"model.{k}": v for k, v in encoder.items()}
    else:
        encoder = {f"0.{k}": v for k, v in encoder.items()}
    unused = {"nn.weight": torch.zeros(100, 100), "nn.bias": torch.zeros(100)}
    return {**unused, **state, **{f"model.encoder.{k}": v for k, v in encoder.items()}}


def checkpoint(folder: Path, tensors: dict[str, Any], module: str = "urgentpk.urgentpk_model", **settings: Any) -> Path:
    """A Lightning file whose settings are an object of the class `Config` in a module called `module`."""
    kind = type("Config", (), {"__module__": module})
    config = kind()
    config.__dict__.update({"encoder": "mel", "backbone": "resnet34", "fs": 16000, "delta": 0.3, **settings})
    raw = {"epoch": 1, "global_step": 2, "state_dict": tensors, "hparams_name": "kwargs", "hyper_parameters": {"cfg": config}}
    path = folder / "model.ckpt"
    with pytest.MonkeyPatch.context() as patch:  # pickle only writes the name of a class that it can import
        for name in {module, module.split(".")[0]}:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setattr(sys.modules[module], "Config", kind, raising=False)
        torch.save(raw, path)
    return path


def wave() -> tuple["torch.Tensor", "torch.Tensor"]:
    return 0.1 * torch.randn(2, 2, 4000, generator=torch.Generator().manual_seed(0)), torch.tensor([4000, 4000])


# --- files made here -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("module", ["urgentpk.urgentpk_model", "urgentpk_model", "model_mod"])
def test_every_variant_comes_back_as_it_was(name: str, module: str, tmp_path: Path) -> None:
    if "utmos" in name:
        pytest.importorskip("transformers")
    net = UrgentPk(CONFIGS[name]).eval()
    found = released(checkpoint(tmp_path, tensors_of(net), module, tune_utmos=net.config.tune_encoder))
    assert found.architecture == "urgentpk"
    assert UrgentPkConfig.from_dict(json.loads(json.dumps(found.config))) == replace(
        net.config, utmos=net.config.utmos and replace(TINY_UTMOS, projection=1)
    )
    with torch.no_grad():
        torch.testing.assert_close(net_of(found)(*wave()), net(*wave()), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("names", ["public", "absent"])
def test_utmos_under_public_names_or_in_a_file_beside(names: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    net = UrgentPk(CONFIGS["utmos_fix"]).eval()
    path = checkpoint(tmp_path, tensors_of(net, names), encoder="utmos")
    if names == "absent":
        with pytest.raises(UsageError, match=FILE_NAME):
            released(path)
        public = tensors_of(net, "public")
        prefix = "model.encoder.model."
        torch.save({k.removeprefix(prefix): v for k, v in public.items() if k.startswith(prefix)}, tmp_path / FILE_NAME)
    with torch.no_grad():
        torch.testing.assert_close(net_of(released(path))(*wave()), net(*wave()), atol=1e-6, rtol=1e-6)


def test_of_the_settings_only_those_that_say_what_the_model_is(tmp_path: Path) -> None:
    tensors = tensors_of(UrgentPk(CONFIGS["mel18"]))
    found = released(checkpoint(tmp_path, tensors, dataset="/home/someone/data", backbone="../../etc", tune_utmos=False))
    assert found.info["settings"] == {"encoder": "mel", "fs": 16000, "delta": 0.3, "tune_utmos": False}
    assert "someone" not in json.dumps([found.info, found.config])


# --- files that are refused ------------------------------------------------------------------------------------------


def broken(change: str) -> dict[str, Any]:
    tensors = tensors_of(UrgentPk(CONFIGS["mel18"]))
    name = "model.model.resnet.layer2.0.conv1.weight"
    match change:
        case "missing":
            del tensors[name]
        case "extra":
            tensors["model.decoder.weight"] = torch.zeros(2)
        case "extra in the net":
            tensors["model.model.resnet.layer2.0.conv9.weight"] = torch.zeros(2)
        case "shape":
            tensors[name] = tensors[name][:, :2]
        case "nan":
            tensors[name] = torch.full_like(tensors[name], torch.nan)
        case "rows":
            tensors["model.model.resnet.embedding.weight"] = torch.zeros(3, 64 * 14)
        case "blocks":
            tensors["model.model.resnet.layer1.5.conv1.weight"] = tensors[name]
        case "no tensor":
            tensors[name] = "weights"
        case "empty":
            tensors["model.model.resnet.conv1.weight"] = torch.zeros(0, 2, 3, 3)
    return tensors


@pytest.mark.parametrize(
    "change", ["missing", "extra", "extra in the net", "shape", "nan", "rows", "blocks", "no tensor", "empty"]
)
def test_a_damaged_file_is_refused_by_name(change: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.ckpt"):
        released(checkpoint(tmp_path, broken(change)))


def test_another_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="48000"):
        released(checkpoint(tmp_path, tensors_of(UrgentPk(CONFIGS["mel18"])), fs=48000))


class Runs:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_file_that_runs_code_does_not(tmp_path: Path) -> None:
    target = tmp_path / "made"
    path = checkpoint(tmp_path, tensors_of(UrgentPk(CONFIGS["mel18"])), extra=Runs(target))
    with pytest.raises(UsageError, match="mkdir"):
        released(path)
    assert not target.exists()


def test_only_a_class_called_config_has_a_stand_in() -> None:
    assert stubs("some.module", "Config") is stubs("__main__", "Config") is not None
    assert stubs("os", "system") is None
    assert stubs("some.module", "MyConfig") is None
    assert not vars(stubs("os", "Config")()), "the stand-in starts empty"


@pytest.mark.parametrize("raw", [None, [], {}, {"state_dict": {}}, {"state_dict": {"a": 1, 2: 3}}, {"model": {"nn.weight": 1}}])
def test_other_files_do_not_match(raw: Any) -> None:
    assert not matches(raw)


# --- the released numbers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors(shared: Path) -> Path:
    folder = shared / "parity" / "urgentpk_mel"
    if not folder.is_dir():
        pytest.skip("no reference vectors beside the checkout")
    return folder


@pytest.fixture(scope="module")
def net(vectors: Path) -> UrgentPk:
    return net_of(released(vectors / "mel.ckpt"))


@pytest.fixture(scope="module")
def exact(net: UrgentPk) -> UrgentPk:
    return copy.deepcopy(net).double()


def test_the_released_layout(vectors: Path) -> None:
    keys = json.loads((vectors / "state_dict_keys.json").read_text())
    assert len(keys) == 222
    with torch.device("meta"):
        ours = UrgentPk().state_dict()
        stft = UrgentPk(UrgentPkConfig(encoder="stft")).state_dict()
    theirs = {k.replace("model.encoder.0.", "encoder.").replace("model.model.", ""): tuple(v[0]) for k, v in keys.items()}
    assert {k: v for k, v in theirs.items() if not k.startswith("nn.")} == {k: tuple(v.shape) for k, v in ours.items()}
    assert len(stft) == 220 - 2


def test_outputs_and_layers_of_the_released_model(vectors: Path, net: UrgentPk, exact: UrgentPk) -> None:
    from safetensors.torch import load_file

    inputs, outputs = load_file(vectors / "inputs.safetensors"), load_file(vectors / "outputs.safetensors")
    seen: dict[str, Any] = {}
    layers = [f"layer{stage}" for stage in (1, 2, 3, 4)]
    hooks = [
        exact.resnet.get_submodule(name)[-1].register_forward_hook(lambda _, __, out, name=name: seen.update({name: out[0]}))
        for name in layers
    ]
    for name, pairs in inputs.items():
        lengths, within = torch.full((len(pairs),), pairs.shape[2]), PARITY_OF_EMPTY_BANDS.get(name, PARITY)
        with torch.no_grad():
            out = exact(pairs.double(), lengths)
            # a raw score of 25 in float32: how its sums round depends on the processor (6e-6 of it on one)
            torch.testing.assert_close(net(pairs, lengths), out.float(), atol=ROUNDING, rtol=1e-5)
        torch.testing.assert_close(out.float(), outputs[f"{name}.out"], atol=within, rtol=0)
        torch.testing.assert_close(out[:, 0].sigmoid().float(), outputs[f"{name}.prob"], atol=within, rtol=0)
        for layer in layers if name == "real_3s_b4" else ():
            mean = seen[layer].mean((2, 3)).float()
            torch.testing.assert_close(mean, outputs[f"{name}.{layer}_mean"], atol=PARITY, rtol=1e-5)
            assert list(seen[layer].shape) == outputs[f"{name}.{layer}_shape"].tolist()
    for hook in hooks:
        hook.remove()


def test_ranking_calls_in_the_released_order(shared: Path, net: UrgentPk, exact: UrgentPk) -> None:
    """One of the two contents that the released validation ranks on; tests/test_network.py counts the votes of both.

    Of what is exact only the features: in float64 the net takes six times as long, and moves a probability by 3e-6 at most.
    """
    import soundfile

    results = json.loads((shared / "parity" / "rank" / "results_mel.json").read_text())
    dataset = shared / "parity" / "rank" / "dataset"
    content = next(iter(json.loads((dataset / "split.json").read_text())["cv"]))
    calls = [c for c in results["logit_binary_vote"]["calls"] if c[0].split("/")[1] == content]
    names = sorted({name for call in calls for name in call[:2]})
    signals = [soundfile.read(dataset / n.split("/")[0] / "wav" / f"{n.split('/')[1]}.wav", dtype="float32")[0] for n in names]
    waves, lengths = torch.from_numpy(np.stack(signals)), torch.tensor([len(s) for s in signals])
    pairs = [(names.index(a), names.index(b)) for a, b, *_ in calls]
    features = exact.features(waves.double(), lengths)
    judged = judge_pairs(net, features._replace(rows=features.rows.float()), pairs)
    rounded = judge_pairs(net, net.features(waves, lengths), pairs)
    assert len(judged) == 15
    expected = torch.tensor([call[3:6] for call in calls])
    p, mos = PARITY_OF_EMPTY_BANDS["probability"], PARITY_OF_EMPTY_BANDS["opinion score"]
    torch.testing.assert_close(judged[:, 0].sigmoid(), expected[:, 0], atol=p, rtol=0)
    torch.testing.assert_close(judged[:, 1:], expected[:, 1:], atol=mos, rtol=0)
    torch.testing.assert_close(rounded[:, 0].sigmoid(), judged[:, 0].sigmoid(), atol=ROUNDING, rtol=0)
    torch.testing.assert_close(rounded[:, 1:], judged[:, 1:], atol=ROUNDING_MOS, rtol=0)


def test_the_folded_net_keeps_the_released_numbers_within_rounding(vectors: Path, net: UrgentPk) -> None:
    """The released float32 numbers are themselves 2e-5 away from exact ones on these perturbed weights."""
    from safetensors.torch import load_file

    pair = load_file(vectors / "inputs.safetensors")["noise_odd"]
    out = load_file(vectors / "outputs.safetensors")["noise_odd.out"]
    fused = fused_for_inference(net)
    with torch.no_grad():
        torch.testing.assert_close(fused(pair, torch.tensor([pair.shape[2]])), out, atol=5e-5, rtol=0)
