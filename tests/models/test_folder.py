"""Our model folders: what is saved comes back, and what is damaged or hostile is refused with a sentence."""

import json
import threading
from math import inf

import pytest
import torch
from safetensors.torch import load_file, save_file

from urgentmos.errors import UsageError
from urgentmos.metrics import METRICS
from urgentmos.models import folder as checkpoints
from urgentmos.models.folder import RELEASES, assemble, build, convert, load, load_any, read_info, save, seal
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig

CONFIG = UrgentMosConfig(
    (EncoderConfig(kind="mel", layers="last"),),
    {"mos": {"mos_overall": (1.0, 5.0), "sdr": (-inf, inf), "mcd": (0.0, inf), "pesq": (0.999, 4.6439)}},
    preference="mos",
    dim=8,
    heads=2,
    feedforward=8,
    layers=1,
    preference_heads=2,
)
INFO = {"name": "tiny", "trained_on": "nothing", "licence": "MIT"}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return UrgentMos(CONFIG).eval()


@pytest.fixture
def folder(net, tmp_path):
    return save(tmp_path / "model", net, INFO)


def change(folder, **fields):
    """Overwrite fields of config.json, on purpose: its checksums fit."""
    seal(folder, {**json.loads((folder / "config.json").read_text()), **fields})


def reweigh(folder, edit):
    """Rewrite model.safetensors after `edit(state)`, on purpose."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    seal(folder)


# --- round trip ------------------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back_with_the_same_scores(net, folder):
    loaded = load(folder)
    wave, n = 0.1 * torch.randn(2, 1600), torch.tensor([1600, 900])
    with torch.inference_mode():
        ours, theirs = net.encode(wave, n), loaded.net.encode(wave, n)
        for metric, value in net.absolute(ours).items():
            assert torch.equal(value, loaded.net.absolute(theirs)[metric])
        assert torch.equal(net.compare(ours, ours.pick([1, 0])).cmos, loaded.net.compare(theirs, theirs.pick([1, 0])).cmos)
    assert not loaded.net.training
    assert loaded.architecture == "urgentmos"
    assert loaded.info["name"] == "tiny" and loaded.info["trained_on"] == "nothing"
    assert loaded.info["metrics"] == list(net.metrics)


def test_the_version_follows_the_weights(net, folder, tmp_path):
    again = save(tmp_path / "again", net, INFO)
    assert load(again).info["version"] == load(folder).info["version"]
    assert save(tmp_path / "named", net, {**INFO, "version": "1.2"}) and load(tmp_path / "named").info["version"] == "1.2"
    other = UrgentMos(CONFIG)
    assert load(save(tmp_path / "other", other, INFO)).info["version"] != load(folder).info["version"]


def test_the_folder_holds_what_people_read(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["MODEL_CARD.md", "config.json", "model.safetensors"]
    about = json.loads((folder / "config.json").read_text())
    assert about["format"] == 1 and about["config"]["categories"]["mos"]["sdr"] == [None, None]
    assert "tiny" in (folder / "MODEL_CARD.md").read_text()


def test_a_card_is_kept_unless_another_is_given(net, folder):
    (folder / "MODEL_CARD.md").write_text("by hand")
    save(folder, net, INFO)
    assert (folder / "MODEL_CARD.md").read_text() == "by hand"
    save(folder, net, INFO, card="new")
    assert (folder / "MODEL_CARD.md").read_text() == "new"


def test_only_taught_metrics_are_offered(net, tmp_path):
    assert load(save(tmp_path / "m", net, {**INFO, "metrics": ["sdr"]})).info["metrics"] == ["sdr"]
    with pytest.raises(UsageError, match="does not have"):
        load(save(tmp_path / "n", net, {**INFO, "metrics": ["utmos"]}))


def test_loading_draws_no_random_number_and_leaves_initialisation_alone(folder):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    load(folder)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.nn.Linear(50, 50).weight.std() > 0.01


def test_initialisation_is_silenced_in_this_thread_only():
    drawn = {}
    with checkpoints._without_initialisation():
        other = threading.Thread(target=lambda: drawn.update(x=torch.zeros(100).normal_()))
        other.start()
        other.join()
        assert (torch.zeros(100).normal_() == 0).all()
    assert drawn["x"].std() > 0.5


def test_saving_without_a_name_or_with_code_is_refused(net, tmp_path):
    with pytest.raises(UsageError, match="no name"):
        save(tmp_path / "m", net, {})
    with pytest.raises(UsageError, match="plain data"):
        save(tmp_path / "m", net, {**INFO, "extra": print})
    with pytest.raises(UsageError, match="Linear"):
        save(tmp_path / "m", torch.nn.Linear(1, 1), INFO)
    assert not (tmp_path / "m").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    broken = UrgentMos(CONFIG)
    with torch.no_grad():
        broken.fusion.linear.bias[0] = torch.nan
    with pytest.raises(UsageError, match=r"fusion\.linear\.bias"):
        save(tmp_path / "m", broken, INFO)


# --- damaged and hostile ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format"),
        ({"architecture": "os.system"}, "no architecture 'os.system'"),
        ({"architecture": ["urgentmos"]}, "no architecture"),
        ({"name": ""}, "no name"),
        ({"version": 3}, "no version"),
        ({"metrics": "pesq"}, "list of names"),
        ({"config": []}, "does not describe a model"),
        ({"config": {}}, "cannot be understood"),
    ],
)
def test_a_wrong_config_is_refused(folder, fields, said):
    change(folder, **fields)
    with pytest.raises(UsageError, match=said) as e:
        load(folder)
    assert str(folder) in str(e.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a":' * 5000])
def test_a_config_that_is_no_json_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}", b"PK\x03\x04" * 9])
def test_weights_that_are_no_safetensors_are_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    seal(folder)
    with pytest.raises(UsageError, match=r"model\.safetensors cannot be read as safetensors"):
        load(folder)


def nan(state):
    state["ampm.heads.mcd.linear.weight"][0, 0] = torch.nan


def infinite(state):
    state["fusion.norm.weight"][0] = torch.inf


def reshaped(state):
    state["fusion.norm.weight"] = torch.ones(9)


def short(state):
    del state["ncpm.cmos.bias"]


def extra(state):
    state["backdoor"] = torch.ones(1)


def other_bound(state):
    state["ampm.heads.mos_overall.bound.high"] = torch.tensor(100.0)


def no_bound(state):
    state["ampm.heads.mos_overall.bound.high"] = torch.tensor(torch.nan)


def integers(state):
    state["fusion.norm.weight"] = torch.ones(8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (nan, "not finite"),
        (infinite, "not finite"),
        (reshaped, r"\(9,\) and should be \(8,\)"),
        (short, r"ncpm\.cmos\.bias is missing"),
        (extra, "backdoor is unknown"),
        (other_bound, "bound of 100"),
        (no_bound, "not finite"),
        (integers, "another kind of numbers"),
    ],
)
def test_other_weights_are_refused(folder, edit, said):
    reweigh(folder, edit)
    with pytest.raises(UsageError, match=said) as e:
        load(folder)
    assert "model.safetensors" in str(e.value)


def test_sizes_that_would_fill_the_memory_are_refused_before_it_is_taken(folder):
    """65536 x 65536 weights are 17 GB each: on the meta device they cost nothing, and then the shapes differ."""
    change(folder, config={**CONFIG.to_dict(), "dim": 1 << 16, "feedforward": 1 << 16})
    with pytest.raises(UsageError, match="should be"):
        load(folder)


def test_half_precision_weights_become_float32(folder):
    reweigh(folder, lambda state: state.update({k: v.half() for k, v in state.items() if k.startswith("fusion")}))
    assert {p.dtype for p in load(folder).net.parameters()} == {torch.float32}


def test_missing_files_say_so(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="does not exist"):
        load(folder)
    with pytest.raises(UsageError, match="not a model"):
        read_info(tmp_path)


def test_an_unbuildable_net_is_refused():
    with pytest.raises(UsageError, match="3 attention heads"):
        build("urgentmos", {**CONFIG.to_dict(), "heads": 3}, source="m")
    with pytest.raises(UsageError, match="no architecture"):
        build("sys", {})


def test_assemble_does_not_touch_what_it_is_given(net):
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assemble("urgentmos", CONFIG.to_dict(), state, "m")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


# --- names -----------------------------------------------------------------------------------------------------------


def test_releases_are_well_formed():
    from urgentmos.models.official import FORMATS

    for name, row in RELEASES.items():
        assert name == row.name and row.format in FORMATS and row.parameters > 0
        assert all(metric in METRICS for metric in row.metrics)


def test_load_any_takes_folders_and_names_what_there_is(folder, tmp_path):
    assert load_any(folder).info["name"] == "tiny"
    with pytest.raises(UsageError, match="urgent-mos-f1c1m5dref"):
        load_any("no-such-model")
    with pytest.raises(UsageError, match="allow the download"):
        load_any("urgent-mos-f1c1m5dref")
    (tmp_path / "bytes.pt").write_bytes(b"\x01\x02\x03")
    with pytest.raises(UsageError, match=r"bytes\.pt"):
        load_any(tmp_path / "bytes.pt")


def test_convert_makes_a_folder_of_ours(folder, tmp_path, net):
    loaded = convert(folder, tmp_path / "copy")
    assert loaded.info["name"] == "tiny"
    assert all(torch.equal(v, loaded.net.state_dict()[k]) for k, v in net.state_dict().items())
