"""Damage and edits: no weight file, no config.json and no exported file that changed is scored, and each is named."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import urgentmos  # noqa: E402
from urgentmos.common.packaged import PACKAGED  # noqa: E402
from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.judges.export import to_onnx  # noqa: E402
from urgentmos.models import checksums  # noqa: E402
from urgentmos.models.folder import convert, read_info, save, seal  # noqa: E402
from urgentmos.models.folder import load as load_folder  # noqa: E402

WAVE = (0.1 * np.random.default_rng(0).standard_normal(12_000)).astype(np.float32)
FILES = ("model.safetensors", "model.onnx")


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with both weight files."""
    place = tmp_path_factory.mktemp("sealed") / "model"
    convert(tiny_model, place)
    to_onnx(load_folder(place), place / "model.onnx", "log-mel")
    return place


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file without a folder."""
    place = tmp_path_factory.mktemp("alone") / "tiny.onnx"
    to_onnx(load_folder(folder), place)
    return place


def scores(model: Path) -> dict[str, float | None]:
    return urgentmos.load(model).score(WAVE, sample_rate=16_000).metrics


def copy_of(folder: Path, to: Path, *files: str) -> Path:
    """config.json and some of the weight files."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for name in ("config.json", *files):
        shutil.copy(folder / name, to / name)
    return to


def flipped(content: bytes, places: list[int]) -> bytes:
    damaged = bytearray(content)
    for place in places:
        damaged[place % len(damaged)] ^= 1 << place % 8
    return bytes(damaged)


PLACES = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=10)


@settings(max_examples=60)
@given(places=PLACES, name=st.sampled_from(FILES), cut=st.booleans())
def test_no_damaged_weight_file_is_scored(
    places: list[int], name: str, cut: bool, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = copy_of(folder, tmp_path_factory.getbasetemp() / "flipped", name)
    whole = (damaged / name).read_bytes()
    content = whole[: places[0] % len(whole)] if cut else flipped(whole, places)
    (damaged / name).write_bytes(content)
    if content == whole:
        return
    with pytest.raises(UsageError) as e:
        urgentmos.load(damaged)
    assert str(damaged / name) in str(e.value) and "\n" not in str(e.value)


@settings(max_examples=60)
@given(places=PLACES)
def test_no_damaged_exported_file_is_scored(places: list[int], alone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    damaged = tmp_path_factory.getbasetemp() / "damaged.onnx"
    content = flipped(alone.read_bytes(), places)
    damaged.write_bytes(content)
    if content != alone.read_bytes():
        with pytest.raises(UsageError, match=r"damaged\.onnx"):
            urgentmos.load(damaged)


@pytest.mark.parametrize("old", [b"sha256", b"sealed"])
def test_a_checksum_whose_name_is_damaged_is_missed(old: bytes, alone: Path, tmp_path: Path) -> None:
    content = alone.read_bytes()
    place = content.rindex(old)
    (tmp_path / "x.onnx").write_bytes(content[:place] + b"zzzzzz" + content[place + 6 :])
    with pytest.raises(UsageError, match=r"x\.onnx is damaged"):
        urgentmos.load(tmp_path / "x.onnx")


@settings(max_examples=60)
@given(places=PLACES)
def test_a_damaged_config_gives_the_same_scores_or_a_sentence(
    places: list[int], folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = copy_of(folder, tmp_path_factory.getbasetemp() / "config", "model.onnx")
    (damaged / "config.json").write_bytes(flipped((folder / "config.json").read_bytes(), places))
    try:
        told = scores(damaged)
    except UsageError as e:
        assert "config.json" in str(e)
        return
    assert told == scores(folder)  # a blank became another blank


EDITS = ({"name": "x"}, {"verdict_temperature": 2.0}, {"intervals": None}, {"trained_on": "x"}, {"sha256": {}})


@pytest.mark.parametrize("edit", EDITS, ids=str)
@pytest.mark.parametrize("gone", ["", "checksum", "sha256"])
def test_an_edited_config_is_refused_and_says_what_to_do(edit: dict[str, Any], gone: str, folder: Path, tmp_path: Path) -> None:
    place = copy_of(folder, tmp_path / "m", *FILES)
    about = {**json.loads((place / "config.json").read_text()), **edit}
    about.pop(gone, None)
    (place / "config.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=r"config\.json has changed since it was written.*urgentmos import"):
        urgentmos.load(place)


def test_the_model_of_the_package_is_sealed() -> None:
    for place in PACKAGED.values():
        about = read_info(place)
        assert set(checksums.files_of(about)) == set(FILES)
        for name, digest in checksums.files_of(about).items():
            assert checksums.sha256_of((place / name).read_bytes()) == digest


def test_export_writes_the_file_into_the_config_and_says_whose_it_is(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    about = read_info(folder)
    assert set(checksums.files_of(about)) == set(FILES) and urgentmos.load(folder).notes == ()
    other = save(tmp_path / "other", load_folder(tiny_model).net, {"name": "another"})
    with pytest.raises(UsageError, match="holds another model"):
        to_onnx(load_folder(folder), other / "model.onnx")
    assert not (other / "model.onnx").exists()


def test_a_file_that_an_interrupted_export_left_is_read_by_its_own_checksum(folder: Path, tmp_path: Path) -> None:
    place = copy_of(folder, tmp_path / "m", *FILES)
    about = read_info(place)
    seal(place, about)
    unlisted = checksums.sealed(about, {"model.safetensors": checksums.files_of(about)["model.safetensors"]})
    (place / "config.json").write_text(json.dumps(unlisted))
    assert scores(place) == scores(folder)
    content = (place / "model.onnx").read_bytes().replace(b"sha256", b"sha255").replace(b"sealed", b"sealer")
    (place / "model.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.onnx has no checksum and config\.json does not name it.*urgentmos export"):
        urgentmos.load(place)


# ---- versions


def test_the_version_is_that_of_what_computes(folder: Path, tmp_path: Path) -> None:
    loaded = load_folder(folder)
    info = {key: value for key, value in loaded.info.items() if key != "version"}
    version = loaded.info["version"]

    def saved(**changes: Any) -> str:
        return str(load_folder(save(tmp_path / "x", loaded.net, {**info, **changes})).info["version"])

    assert saved() == saved(name="other", licence="none", trained_on="rain") == version
    intervals = {"level": 0.9, "metrics": {"mos_overall": {"knots": [1.0], "low": [-0.1], "high": [0.1]}}}
    others = [saved(verdict_temperature=2.0), saved(metrics=loaded.info["metrics"][:1]), saved(intervals=intervals)]
    assert len({version, *others}) == 4
    assert saved(version=version, verdict_temperature=2.0) == others[0], "it was given for another content"
    named = load_folder(save(tmp_path / "named", loaded.net, {"name": "x", "version": "1.2"}))
    assert convert(tmp_path / "named", tmp_path / "copy").info["version"] == named.info["version"] == "1.2"


# ---- models of before


@pytest.fixture
def older(folder: Path, tmp_path: Path) -> Path:
    """A folder that was written before there were checksums."""
    place = copy_of(folder, tmp_path / "older", *FILES)
    (place / "config.json").write_text(json.dumps(checksums.unsealed(read_info(place))))
    return place


@pytest.mark.parametrize("light", [True, False], ids=["onnx", "torch"])
def test_a_model_without_checksums_loads_and_every_result_says_so(light: bool, older: Path, folder: Path) -> None:
    if not light:
        (older / "model.onnx").unlink()
    model = urgentmos.load(older)
    assert model.score(WAVE, sample_rate=16_000).metrics == pytest.approx(scores(folder), abs=1e-3)
    (note,) = model.notes
    assert str(older) in note and "urgentmos import" in note
    assert note in model.compare(WAVE, WAVE, sample_rate=16_000).warnings
    from urgentmos.judges.base import warnings_about, warnings_about_pairs

    assert note in warnings_about([], model) and note in warnings_about_pairs("a", "b", [], model)


def test_importing_a_model_of_before_gives_it_the_version_of_its_content(older: Path, folder: Path, tmp_path: Path) -> None:
    about = json.loads((older / "config.json").read_text())
    (older / "config.json").write_text(json.dumps({**about, "verdict_temperature": 3.0}))  # by hand: the version lies
    sealed = convert(older, tmp_path / "again")
    assert sealed.notes == () and sealed.info["version"] != about["version"]
    (older / "config.json").write_text(json.dumps(about))
    assert convert(older, tmp_path / "same").info["version"] == about["version"] == read_info(folder)["version"]


def test_an_exported_file_of_before_says_so(alone: Path, tmp_path: Path) -> None:
    content = alone.read_bytes().replace(b"sha256", b"sha255").replace(b"sealed", b"sealer")
    (tmp_path / "old.onnx").write_bytes(content)
    (note,) = urgentmos.load(tmp_path / "old.onnx").notes
    assert "old.onnx" in note


# ---- every number of a config


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all numbers in a tree."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(item, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def with_value(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = json.loads(json.dumps(tree))
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return made


ODD = ["0", "-1", "1e400", "1" + "0" * 30, "9" * 5000, "65536", "0.5", '"x"', "null", "[]", "true", "NaN", "-0.0"]


@settings(max_examples=150)
@given(data=st.data(), resealed=st.booleans())
def test_odd_numbers_in_a_config_are_refused_or_change_nothing(
    data: st.DataObject, resealed: bool, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """resealed: somebody made the checksum fit, so that the values alone must be refused, or give finite scores."""
    place = copy_of(folder, tmp_path_factory.getbasetemp() / "odd", "model.safetensors")
    about = json.loads((folder / "config.json").read_text())
    path = data.draw(st.sampled_from(list(numbers(about))))
    odd = data.draw(st.sampled_from(ODD))
    text = json.dumps(with_value(checksums.unsealed(about) if resealed else about, path, "@")).replace('"@"', odd)
    (place / "config.json").write_text(text)
    if resealed:
        try:
            seal(place)
        except UsageError as e:
            assert "config.json cannot be read as JSON" in str(e)
            return
    try:
        told = scores(place)
    except UsageError as e:
        assert str(place) in str(e) and "\n" not in str(e) and len(str(e)) < 1000
        return
    assert all(value is None or math.isfinite(value) for value in told.values())
    if not resealed:
        assert told == pytest.approx(scores(folder), abs=1e-3)


UTMOS = {"layers": 1, "hidden": 64, "feed_forward": 32, "conv_width": 16, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "lstm": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "utmos": {**UTMOS, "position_kernel": 16, "position_groups": 4, "embedding": 8, "projection": 8},
    "urgentpk": {
        "encoder": "utmos",
        "backbone": "resnet18",
        "filters": 4,
        "dropout": 0.3,
        "tune_encoder": False,
        "utmos": UTMOS,
    },
}


@settings(max_examples=60)
@given(data=st.data(), architecture=st.sampled_from(sorted(CONFIGS)))
def test_odd_numbers_build_a_net_or_are_refused(data: st.DataObject, architecture: str) -> None:
    """On the meta device, where only loops over layers cost something."""
    from urgentmos.models.folder import build

    config = CONFIGS[architecture]
    path = data.draw(st.sampled_from(list(numbers(config))))
    odd = data.draw(st.sampled_from([0, -1, 10**30, 10**9, math.inf, math.nan, 0.5, "x", None, [], True]))
    with torch.device("meta"):
        try:
            build(architecture, with_value(config, path, odd), source="the file")
        except UsageError as e:
            assert "the file" in str(e) and "\n" not in str(e) and len(str(e)) < 1000
