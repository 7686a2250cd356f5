"""The released format: the reference file gives the released numbers, its variants are understood, hostile ones refused."""

import json
import pickle
import shutil
import zipfile
from collections import OrderedDict
from math import inf

import numpy as np
import pytest
import torch

from urgentmos.errors import UsageError
from urgentmos.metrics import CATEGORIES, METRICS, TABLE1
from urgentmos.models.folder import assemble, convert, load_any
from urgentmos.models.official import read
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig

TOLERANCE = 2e-5

WAVLM = {
    "model_type": "wavlm",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 16,
    "max_bucket_distance": 32,
}
WHISPER = {
    "num_mel_bins": 16,
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "max_source_positions": 100,
}
QWEN = {**WHISPER, "model_type": "qwen3_omni_moe_audio_encoder", "output_dim": 20, "downsample_hidden_size": 4, "n_window": 50}
SMALL = {"dim": 16, "heads": 8, "feedforward": 24, "layers": 2, "preference_heads": 4}


# --- files of the released format, written here ----------------------------------------------------------------------


def their_name(name):
    """Our name of a weight -> that of the release; written the other way round than in the reader."""
    parts = name.split(".")
    match parts:
        case ["encoders", *rest]:
            return ".".join(["feature_extractor", "feature_extractors", *rest])
        case ["fusion", part, kind]:
            return f"feature_extractor.feat_proj.{['linear', 'norm'].index(part)}.{kind}"
        case ["ampm", "categories", *rest]:
            return ".".join(["category2encoder", *rest])
        case ["ampm", "heads", metric, "linear", kind]:
            return f"metric2absolute_score_predictor.{metric}.prediction_head.{kind}"
        case ["ampm", "heads", metric, "bound", end]:
            return f"metric2absolute_score_predictor.{metric}.activation.{'min' if end == 'low' else 'max'}_value"
        case ["ncpm", part, *rest]:
            theirs = {"attention": "cross_attn", "verdict": "classification_head", "cmos": "regression_head"}[part]
            return ".".join(["metric2comparative_score_predictor", "mos_overall", theirs, *rest])
    raise AssertionError(name)


def their_config(config):
    """The parts of the released configuration that matter, among strings that must not be followed."""
    names = [encoder.name for encoder in config.encoders]
    encoders = [
        {"_target_": "os.system", "model_name": name, "freeze": True, "layer_aggregation": encoder.layers == "weighted"}
        for name, encoder in zip(names, config.encoders, strict=True)
    ]
    layer = {"_target_": "torch.nn.TransformerEncoderLayer", "nhead": config.heads}
    return {
        "category2metrics": {
            category: {metric: {"min": low, "max": high} for metric, (low, high) in ranges.items()}
            for category, ranges in config.categories.items()
        },
        "arch": {"encoder_nhead": config.heads, "category_encoder": {"encoder_layer": layer}},
        "model": {
            "_target_": "subprocess.call",
            "feature_extractor": {"feature_extractors": encoders},
            "metric2comparative_score_predictor": {"num_heads": config.preference_heads},
        },
    }


def released(folder, config, *, edit=None, **more):
    """A released file of a random net of `config`: (path, net)."""
    torch.manual_seed(0)
    net = UrgentMos(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    state = OrderedDict((their_name(name), tensor) for name, tensor in net.state_dict().items())
    raw = {"model": state, "optimizer": {}, "scheduler": {}, "update": 3, "config": their_config(config), **more}
    if edit:
        edit(raw)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(raw, folder / "model.pt")
    return folder / "model.pt", net


def beside(folder, name, model, extractor=None):
    """An encoder's folder next to the file."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(model))
    if extractor is not None:
        (place / "preprocessor_config.json").write_text(json.dumps(extractor))


def tiny(name="tiny", categories=None, model=WAVLM, **encoder):
    categories = categories or {"mos": {"mos_overall": (1.0, 5.0), "lsd": (0.0, inf), "lps": (-inf, 1.0), "sdr": (-inf, inf)}}
    judge = next(category for category, ranges in categories.items() if "mos_overall" in ranges)
    encoders = (EncoderConfig(kind="ssl", name=name, model=model, **encoder),)
    return UrgentMosConfig(encoders, categories, preference=judge, **SMALL)


def same_scores(net, other, seconds=0.3):
    torch.manual_seed(1)
    n = torch.tensor([int(16_000 * seconds), int(12_000 * seconds)])
    wave = 0.1 * torch.randn(2, int(n.max()))
    with torch.inference_mode():
        ours, theirs = net.encode(wave, n), other.encode(wave, n)
        a, b = net.absolute(ours), other.absolute(theirs)
        assert list(a) == list(b)
        for metric in a:
            torch.testing.assert_close(a[metric], b[metric], atol=TOLERANCE, rtol=0)
        for x, y in zip(net.compare(ours, ours.pick([1, 0])), other.compare(theirs, theirs.pick([1, 0])), strict=True):
            torch.testing.assert_close(x, y, atol=TOLERANCE, rtol=0)


# --- the reference file ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parity(shared):
    folder = shared / "parity" / "urgentmos_f1c1m5"
    if not folder.is_dir():
        pytest.skip("no reference vectors")
    loaded = load_any(folder / "model.pt")
    inputs = np.load(folder / "inputs.npz")
    names = [key[6:] for key in inputs.files if key.startswith("audio/")]
    waves = [torch.from_numpy(inputs[f"audio/{name}"]) for name in names]
    with torch.inference_mode():
        # All clips in one padded batch: the reference was made of each alone.
        n = torch.tensor([len(wave) for wave in waves])
        encoded = loaded.net.encode(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), n)
    return folder, loaded, names, encoded


def test_absolute_scores_and_frames_of_the_reference_file(parity):
    folder, loaded, names, encoded = parity
    expected = np.load(folder / "outputs.npz")
    with torch.inference_mode():
        scores, frames = loaded.net.absolute(encoded), loaded.net.frame_scores(encoded)
    assert set(scores) == {"mos_overall", "scoreq", "utmos", "nisqa_mos", "distill_mos"}
    for i, name in enumerate(names):
        for metric in scores:
            own = expected[f"frames_alone/{name}/{metric}"]
            assert int(encoded.n_frames[i]) == len(own)
            assert abs(float(scores[metric][i]) - float(expected[f"abs_alone/{name}/{metric}"])) < TOLERANCE
            assert np.abs(frames[metric][i, : len(own)].numpy() - own).max() < TOLERANCE


@pytest.mark.parametrize("order", ["AB", "BA"])
def test_pairs_of_the_reference_file(parity, order):
    folder, loaded, names, encoded = parity
    expected = np.load(folder / "outputs.npz")
    pairs = json.loads((folder / "meta.json").read_text())["pairs"]
    sides = [[names.index(pair["AB".index(side)]) for pair in pairs] for side in order]
    with torch.inference_mode():
        found = loaded.net.compare(encoded.pick(sides[0]), encoded.pick(sides[1]))
    assert np.abs(found.cmos.numpy() - expected[f"pair_alone/{order}/reg"]).max() < TOLERANCE
    assert np.abs(found.logits.numpy() - expected[f"pair_alone/{order}/cls"]).max() < TOLERANCE


def test_the_reference_file_becomes_a_folder_of_ours(parity, tmp_path):
    folder, loaded, _, _ = parity
    ours = convert(folder / "model.pt", tmp_path / "ours")
    assert ours.info["name"] == "urgentmos_f1c1m5" and ours.info["licence"]
    assert "f1c1m5_group" not in (tmp_path / "ours" / "config.json").read_text()  # the authors' folders are not ours to show
    same_scores(loaded.net, ours.net)


# --- variants --------------------------------------------------------------------------------------------------------


def test_fifteen_metrics_in_five_categories(tmp_path):
    categories = {c: {m: METRICS[m].range("paper") for m in TABLE1 if METRICS[m].category == c} for c in CATEGORIES}
    path, net = released(tmp_path, config := tiny(categories=categories))
    beside(tmp_path, "tiny", WAVLM)
    loaded = load_any(path)
    assert loaded.info["metrics"] == list(config.metrics)
    assert loaded.info["config"]["preference"] == "naturalness"
    same_scores(net, loaded.net)


def test_an_encoder_with_layer_norms(tmp_path):
    model = {**WAVLM, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    path, net = released(tmp_path, tiny(model=model, normalise=True))
    beside(tmp_path, "tiny", model, {"do_normalize": True})
    same_scores(net, load_any(path).net)


@pytest.mark.parametrize("model_type", ["hubert", "wav2vec2"])
def test_hubert_and_wav2vec(tmp_path, model_type):
    model = {key: value for key, value in WAVLM.items() if "bucket" not in key} | {"model_type": model_type}
    path, net = released(tmp_path, tiny(model=model))
    beside(tmp_path, "tiny", model, {"do_normalize": False})
    same_scores(net, load_any(path).net)


def four_encoders(names):
    encoders = (
        EncoderConfig(kind="ssl", name=names[0], model=WAVLM),
        EncoderConfig(kind="whisper", name=names[1], model={**WHISPER, "model_type": "whisper"}),
        EncoderConfig(kind="qwen_omni", name=names[2], layers="last", model=QWEN),
        EncoderConfig(kind="af_whisper", name=names[3], layers="last", model={**WHISPER, "model_type": "qwen2_audio_encoder"}),
    )
    return UrgentMosConfig(encoders, {"mos": {"mos_overall": (1.0, 5.0)}}, preference="mos", **SMALL)


HUB_NAMES = (
    "microsoft/wavlm-base-plus",
    "Atotti/Kimi-Audio-Whisper-Encoder",
    "giangndm/qwen3-30b-omni-audio-encoder",
    "Atotti/AFWhisper",
)


@pytest.mark.parametrize("names", [HUB_NAMES, ("a", "b", "c", "d"), ("/home/x/a", "/home/x/b", "./c", "deep/down/d")])
def test_four_encoders(tmp_path, names):
    path, net = released(tmp_path, config := four_encoders(names))
    for name, encoder in zip(names, config.encoders, strict=True):
        beside(tmp_path, name.rpartition("/")[2], dict(encoder.model))
    same_scores(net, load_any(path).net)


def test_four_encoders_in_folders_of_other_names(tmp_path):
    """Whisper and AF-Whisper have the same weights by name; what the file calls them tells them apart."""
    path, net = released(tmp_path, config := four_encoders(HUB_NAMES))
    for i, encoder in enumerate(config.encoders):
        beside(tmp_path, f"encoder{i}", dict(encoder.model))
    same_scores(net, load_any(path).net)


def test_both_spellings_of_weight_norm(tmp_path):
    def old(raw):
        for new, name in (("original0", "weight_g"), ("original1", "weight_v")):
            key = next(key for key in raw["model"] if key.endswith(f"parametrizations.weight.{new}"))
            raw["model"][key.replace(f"parametrizations.weight.{new}", name)] = raw["model"].pop(key)

    path, net = released(tmp_path, tiny(), edit=old)
    beside(tmp_path, "tiny", WAVLM)
    same_scores(net, load_any(path).net)


def test_a_file_without_config_and_without_training_state(tmp_path):
    def strip(raw):
        for key in ("optimizer", "scheduler", "update", "config"):
            del raw[key]

    path, net = released(tmp_path, tiny(), edit=strip)
    beside(tmp_path, "whatever", WAVLM)
    same_scores(net, load_any(path).net)


@pytest.mark.parametrize(
    ("names", "readable"),
    [(("noise & distortion", "Naturalness", "spectral_accuracy"), True), (("group1", "group2", "group3"), False)],
)
def test_categories_without_config_are_understood_or_refused_but_not_guessed(tmp_path, names, readable):
    metrics = ({"pesq": (1.0, 4.5)}, {"mos_overall": (1.0, 5.0)}, {"mcd": (0.0, inf)})
    path, net = released(tmp_path, tiny(categories=dict(zip(names, metrics, strict=True))), edit=lambda raw: raw.pop("config"))
    beside(tmp_path, "tiny", WAVLM)
    if readable:
        same_scores(net, load_any(path).net)
    else:
        with pytest.raises(UsageError, match="which metric is in which"):
            read(path)


def test_the_buffers_win_over_the_configuration(tmp_path):
    def narrow(raw):
        raw["config"]["category2metrics"]["mos"]["mos_overall"] = {"min": 0.0, "max": 1.0}

    path, net = released(tmp_path, tiny(), edit=narrow)
    beside(tmp_path, "tiny", WAVLM)
    assert read(path).config["categories"]["mos"]["mos_overall"] == [1.0, 5.0]
    same_scores(net, load_any(path).net)


def test_mos_is_mos_overall(tmp_path):
    def rename(raw):
        raw["model"] = OrderedDict((key.replace("mos_overall", "mos"), tensor) for key, tensor in raw["model"].items())
        table = raw["config"]["category2metrics"]["mos"]
        table["mos"] = table.pop("mos_overall")

    path, _ = released(tmp_path, tiny(), edit=rename)
    beside(tmp_path, "tiny", WAVLM)
    loaded = load_any(path)
    assert "mos_overall" in loaded.net.metrics and "mos" not in loaded.net.metrics


def test_a_model_without_pairs(tmp_path):
    def unpaired(raw):
        for key in [key for key in raw["model"] if key.startswith("metric2comparative")]:
            del raw["model"][key]

    path, _ = released(tmp_path, tiny(), edit=unpaired)
    beside(tmp_path, "tiny", WAVLM)
    assert read(path).config["preference"] is None
    assert load_any(path).net.ncpm is None


# --- where the encoder's configuration is looked for -----------------------------------------------------------------


def test_the_extractor_says_whether_clips_are_normalised(tmp_path):
    path, _ = released(tmp_path, tiny())
    for extractor, expected in (
        (None, False),
        ({"do_normalize": False}, False),
        ({"do_normalize": True}, True),
        ({"x": 1}, True),
    ):
        shutil.rmtree(tmp_path / "tiny", ignore_errors=True)
        beside(tmp_path, "tiny", WAVLM, extractor)
        assert read(path).config["encoders"][0]["normalise"] is expected


def test_of_a_configuration_only_numbers_and_known_words_are_kept(tmp_path):
    path, _ = released(tmp_path, tiny())
    hostile = {
        "auto_map": {"AutoModel": "evil.py"},
        "attn_implementation": "evil/kernel",
        "_name_or_path": "/home/me",
        "torch_dtype": "x",
    }
    beside(tmp_path, "tiny", {**WAVLM, **hostile, "architectures": ["WavLMModel"]})
    kept = read(path).config["encoders"][0]["model"]
    assert kept == WAVLM


def test_a_folder_of_the_wrong_encoder_is_said_to_be_wrong(tmp_path):
    path, _ = released(tmp_path, tiny())
    beside(tmp_path, "tiny", {**WAVLM, "num_hidden_layers": 5})
    with pytest.raises(UsageError, match="5 layers of 32"):
        read(path)


def test_without_a_configuration_the_sentence_says_where_to_put_it(tmp_path):
    path, _ = released(tmp_path, tiny())
    with pytest.raises(UsageError, match=r"config\.json into the folder tiny"):
        read(path)


def test_several_fitting_folders_are_not_guessed_among(tmp_path):
    path, _ = released(tmp_path, tiny())
    beside(tmp_path, "one", WAVLM)
    beside(tmp_path, "two", {**WAVLM, "num_attention_heads": 4})
    with pytest.raises(UsageError, match="one, two"):
        read(path)


@pytest.mark.parametrize("name", ["../../x", "..", "../tiny", "a/../../x", "tiny\\..\\..\\x", "x\x00y", "~/x; rm", "a/b\n"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    inside = tmp_path / "deep" / "inside"
    path, _ = released(inside, tiny(name=name))
    beside(inside, "tiny", WAVLM)
    beside(tmp_path, "x", WAVLM)
    with pytest.raises(UsageError, match="leads out of its folder or is no name"):
        read(path)


def test_the_hub_is_asked_only_if_that_is_allowed(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def fetch(repo, file, **_):
        asked.append((repo, file))
        if file != "config.json":
            raise FileNotFoundError(file)
        (tmp_path / "fetched.json").write_text(json.dumps(WAVLM))
        return str(tmp_path / "fetched.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    path, net = released(tmp_path / "model", tiny(name="somebody/encoder"))
    with pytest.raises(UsageError, match="allow"):
        read(path)
    assert not asked
    same_scores(net, load_any(path, allow_download=True).net)
    assert asked[0] == ("somebody/encoder", "config.json")


# --- hostile and damaged ---------------------------------------------------------------------------------------------


class Evil:
    """Writes a file when it is unpickled in the usual way."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("place", ["model", "config", "optimizer"])
def test_nothing_of_a_file_runs(tmp_path, place):
    evil = Evil(tmp_path / "ran")
    hidden = {"feature_extractor.feature_extractors.0.weights": evil} if place == "model" else evil
    path, _ = released(tmp_path, tiny(), edit=lambda raw: raw.update({place: hidden}))
    beside(tmp_path, "tiny", WAVLM)
    with pytest.raises(UsageError, match=r"model\.pt"):
        read(path)
    assert not (tmp_path / "ran").exists()


def changed(key, make):
    def edit(raw):
        raw["model"][key] = make(raw["model"].get(key))

    return edit


def removed(key):
    return lambda raw: raw["model"].pop(key)


def nested(*keys, value):
    def edit(raw):
        at = raw["config"]
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1]] = value

    return edit


HEAD = "metric2absolute_score_predictor.mos_overall"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (changed(f"{HEAD}.prediction_head.weight", lambda w: w * torch.nan), "not finite"),
        (changed("feature_extractor.feat_proj.0.bias", lambda b: b + torch.inf), "not finite"),
        (changed(f"{HEAD}.prediction_head.weight", lambda w: w[:, :3]), "should be"),
        (changed("feature_extractor.feat_proj.0.weight", lambda w: w[:4]), "8 attention heads|should be"),
        (changed("feature_extractor.feat_proj.0.weight", lambda w: torch.tensor(1.0)), "lacks the weights"),
        (changed(f"{HEAD}.activation.min_value", lambda _: torch.tensor(torch.nan)), "no range"),
        (changed(f"{HEAD}.activation.max_value", lambda _: torch.tensor(1.0)), "no range"),
        (changed(f"{HEAD}.activation.max_value", lambda _: torch.ones(2)), "lacks the bounds"),
        (changed("shared_encoder.layers.0.weight", lambda _: torch.ones(2)), "unknown"),
        (changed("category2encoder.mos.norm.weight", lambda _: torch.ones(16)), "unknown"),
        (changed("feature_extractor.feature_extractors.0.weights", lambda w: w.long()), "another kind of numbers"),
        (changed("feature_extractor.feat_proj.0.weight", lambda _: "text"), "not a tensor"),
        (removed(f"{HEAD}.prediction_head.bias"), "missing"),
        (removed(f"{HEAD}.activation.min_value"), "lacks the bounds"),
        (removed("category2encoder.mos.layers.1.norm2.weight"), "missing"),
        (removed("category2encoder.mos.layers.0.linear1.weight"), "lacks the weights"),
        (removed("feature_extractor.feature_extractors.0.model.encoder.layer_norm.weight"), "missing"),
        (removed("feature_extractor.feature_extractors.0.weights"), "missing"),
        (removed("metric2comparative_score_predictor.mos_overall.regression_head.bias"), "missing"),
        (nested("category2metrics", "mos", "pesq", value={}), "not those of its weights"),
        (nested("category2metrics", value={"other": {}}), "not those of its weights"),
        (nested("arch", "encoder_nhead", value=3), "3 attention heads"),
        (nested("arch", "encoder_nhead", value=10**12), "heads is"),
        (nested("arch", "category_encoder", "encoder_layer", "norm_first", value=True), "norm_first"),
        (nested("arch", "pooler", value={"_target_": "x.MaxPooling"}), "MaxPooling"),
        (nested("arch", "shared_encoder", value={"_target_": "x"}), "shared_encoder"),
        (nested("model", "feature_extractor", "feature_extractors", value=[]), "describes 0 encoders"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_and_the_reason(tmp_path, edit, said):
    path, _ = released(tmp_path, tiny(), edit=edit)
    beside(tmp_path, "tiny", WAVLM)
    with pytest.raises(UsageError, match=said) as e:
        read(path)
    assert "model.pt" in str(e.value) and len(str(e.value).splitlines()) == 1


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(UsageError, match="not a torch file"):
        read(path)
    path.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(UsageError, match=r"model\.pt"):
        read(path)
    for content in ({}, {"model": {}}, [1], {"state": torch.ones(1)}):
        torch.save(content, path)
        with pytest.raises(UsageError, match="no released checkpoint"):
            read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(UsageError, match="compressed"):
        read(path)


def test_half_precision_is_read_as_float32(tmp_path):
    def halve(raw):
        raw["model"] = OrderedDict((key, tensor.half()) for key, tensor in raw["model"].items())

    path, _ = released(tmp_path, tiny(), edit=halve)
    beside(tmp_path, "tiny", WAVLM)
    found = read(path)
    assert {p.dtype for p in assemble(found.architecture, found.config, found.state, path).parameters()} == {torch.float32}
