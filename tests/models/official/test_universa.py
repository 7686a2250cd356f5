"""Uni-VERSA-Ext: the released numbers, HyperPyYAML read as data, hostile files refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from urgentmos.errors import UsageError
from urgentmos.models.folder import convert, load_any
from urgentmos.models.official import read
from urgentmos.models.official.universa import read_yaml

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def parity(shared):
    folder = shared / "parity" / "universa"
    if not folder.is_dir():
        pytest.skip("no reference vectors")
    return folder


@pytest.fixture
def copy(parity, tmp_path):
    """A copy of the reference model that a test may change."""
    for name in ("model.pt", "config.yaml"):
        (tmp_path / name).write_bytes((parity / name).read_bytes())  # without the read-only mode
    shutil.copytree(parity / "ssl_tiny", tmp_path / "ssl_tiny", copy_function=shutil.copyfile)
    return tmp_path


def change_weights(folder: Path, edit):
    raw = torch.load(folder / "model.pt", weights_only=True)
    edit(raw["model"])
    torch.save(raw, folder / "model.pt")


def change_yaml(folder: Path, old: str, new: str):
    text = (folder / "config.yaml").read_text()
    assert old in text
    (folder / "config.yaml").write_text(text.replace(old, new))


def test_the_predictions_of_the_reference_file(parity):
    from safetensors.torch import load_file

    vectors = load_file(parity / "parity.safetensors")
    expected = json.loads((parity / "predictions.json").read_text())["alone"]
    net = load_any(parity / "model.pt").net
    with torch.inference_mode():
        encoded = net.encode(vectors["audio"], vectors["audio_lengths"])
        scores = net.absolute(encoded)
    assert encoded.n_frames.tolist() == vectors["feat_lengths"].tolist()
    assert list(scores) == ["mos_overall", *list(expected)[1:]]  # the order of the matrix's rows
    for theirs, values in expected.items():
        ours = "mos_overall" if theirs == "mos" else theirs
        assert (scores[ours] - torch.tensor(values)).abs().max() < TOLERANCE


def test_it_becomes_a_folder_of_ours_that_judges_no_pairs(parity, tmp_path):
    loaded = convert(parity / "model.pt", tmp_path / "ours")
    assert loaded.info["name"] == "universa"
    assert loaded.info["config"]["preference"] is None and loaded.net.ncpm is None
    assert loaded.info["config"]["heads"] == 4


def test_old_spelling_of_weight_norm(copy):
    def old(state):
        for new, name in (("original0", "weight_g"), ("original1", "weight_v")):
            key = next(key for key in state if key.endswith(f"parametrizations.weight.{new}"))
            state[key.replace(f"parametrizations.weight.{new}", name)] = state.pop(key)

    before = read(copy / "model.pt").state
    change_weights(copy, old)
    after = read(copy / "model.pt").state
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_a_model_of_mos_only(copy):
    def only_mos(state):
        for key in [key for key in state if key.startswith("metric2act.") and ".mos." not in key]:
            del state[key]
        state["metric_proj.weight"], state["metric_proj.bias"] = state["metric_proj.weight"][:1], state["metric_proj.bias"][:1]

    before = read(copy / "model.pt").state
    change_weights(copy, only_mos)
    text = (copy / "config.yaml").read_text()
    start, end = text.index("    lps:"), text.index("trainer:")
    (copy / "config.yaml").write_text(text[:start] + "\n" + text[end:])
    found = read(copy / "model.pt")
    assert found.info["metrics"] == ["mos_overall"]
    head = "ampm.heads.mos_overall.linear.weight"
    assert torch.equal(found.state[head], before[head])


# --- config.yaml is read, never run ----------------------------------------------------------------------------------


def test_tags_mean_nothing(tmp_path):
    path = tmp_path / "config.yaml"
    ran = tmp_path / "ran"
    path.write_text(
        f"sample_rate: 16000\na: !apply:os.system [touch {ran}]\nb: !new:subprocess.Popen\n    args: touch {ran}\n"
        f"c: !!python/object/apply:os.system [touch {ran}]\n"
    )
    with pytest.raises(UsageError, match="YAML"):  # the third tag belongs to YAML's own language for Python: refused
        read_yaml(path, path)
    path.write_text(path.read_text().replace("!!python/object/apply:", "!name:"))
    assert read_yaml(path, path)["b"] == {"args": f"touch {ran}"}
    assert not ran.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "a: [",
        "a: &a [1]\nb: &b [*a,*a]\nc:\n    <<: [*b]\n",
        "? [a, b]\n: 1\n",
        "\x00",
        "- " * 3000 + "a",
        "&a [*a]",
        "sample_rate: 8000",
        "sample_rate: !ref <other>",
    ],
)
def test_other_yaml_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"config\.yaml"):
        read_yaml(path, path)


def test_references_to_plain_values_are_followed(copy):
    change_yaml(copy, "nhead: 4", "nhead: !ref <heads>")
    change_yaml(copy, "seed: 42", "seed: 42\nheads: 4")
    assert read(copy / "model.pt").config["heads"] == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nhead: 4", "nhead: !ref <nowhere>", "nhead"),
        ("nhead: 4", "nhead: 5", "5 attention heads"),
        ('activation: "relu"', 'activation: "gelu"', "another kind"),
        ("batch_first: True", "batch_first: True\n            norm_first: True", "another kind"),
        ("    upper:\n", "    lower:\n", "not those of the weights"),
        ('ssl_model_name: "ssl_tiny"', 'ssl_model_name: "../../ssl_tiny"', "leads out"),
        ("metrics:\n    mos:", "other:\n    mos:", "lists no metrics"),
    ],
)
def test_a_yaml_that_does_not_fit_is_refused(copy, old, new, said):
    change_yaml(copy, old, new)
    with pytest.raises(UsageError, match=said):
        read(copy / "model.pt")


def test_without_its_yaml_the_file_is_refused(copy):
    (copy / "config.yaml").unlink()
    with pytest.raises(UsageError, match=r"config\.yaml"):
        read(copy / "model.pt")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda state: state.update({"metric_proj.weight": state["metric_proj.weight"][:3]}), "one row for each"),
        (lambda state: state.update({"metric_proj.weight": state["metric_proj.weight"] * torch.nan}), "not finite"),
        (lambda state: state.pop("metric_proj.bias"), "one row for each"),
        (lambda state: state.pop("metric2act.lps.min_value"), "lacks the bounds"),
        (lambda state: state.pop("encoder.layers.1.norm1.weight"), "missing"),
        (lambda state: state.update({"encoder.norm.weight": torch.ones(96)}), "unknown"),
    ],
)
def test_weights_that_do_not_fit_are_refused(copy, edit, said):
    change_weights(copy, edit)
    with pytest.raises(UsageError, match=said) as e:
        read(copy / "model.pt")
    assert "model.pt" in str(e.value)
