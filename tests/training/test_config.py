"""What a run is: every way to say it, and every way to say it wrong."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.training.config import TrainConfig, make_config, read_config

DOCS = Path(__file__).resolve().parents[2] / "docs/train.md"


def test_settings_are_read_as_their_keys_types() -> None:
    config = read_config(
        "f1c1m5-dany", ["lr=3e-5", "data=a.csv,b.csv", "net.dim=32", "symmetric=false", "steps=1e3", "out=007"]
    )
    assert config.model == "f1c1m5-dany" and config.lr == 3e-5 and config.data == ("a.csv", "b.csv")
    assert config.net == {"dim": 32} and config.symmetric is False and config.steps == 1000 and config.out == "007"


def test_a_yaml_file_says_the_same_and_settings_win(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: f1c1m1-dref\nlr: 1e-4\ndata: [x.csv]\nnet: {dim: 8}\n")
    config = read_config(str(file), ["lr=2e-4", "net.heads=2"])
    assert (config.model, config.lr, config.data, config.net) == ("f1c1m1-dref", 2e-4, ("x.csv",), {"dim": 8, "heads": 2})


def test_urgent_pk_has_the_settings_of_its_paper() -> None:
    mel, utmos = read_config("urgent-pk"), read_config("urgent-pk", ["net.encoder=utmos"])
    assert (mel.batch_pairs, mel.lr, mel.epochs, mel.steps) == (12, 1e-4, 30, 0)
    assert (utmos.batch_pairs, utmos.lr, utmos.epochs, utmos.steps) == (4, 1e-5, 15, 0)
    assert all((c.delta, c.weight_decay, c.bce, c.mse) == (0.3, 1e-6, 0.5, 0.5) for c in (mel, utmos))
    assert read_config("urgent-pk", ["steps=7"]).steps == 7


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("learning_rate=1", "no key 'learning_rate'"),
        ("lr", "KEY=VALUE"),
        ("lr=fast", "should be a number"),
        ("lr=0", "above 0"),
        ("lr=.nan", "a finite number"),
        ("lr=.inf", "a finite number"),
        ("seed=5e9", "at most 4294967295"),
        ("steps=1e13", "at most"),
        (f"seed={'9' * 6000}", "should be a whole number"),
        ("metric_weights.pesq=-1", "0 or more"),
        ("steps=1.5", "whole number"),
        ("symmetric=2", "true or false"),
        ("scope=galaxy", "Choose one of"),
        ("lr.x=1", "no keys of its own"),
        ("net=3", "keys of its own"),
        ("valid_share=1", "below 1"),
        ("steps=0", "one of them"),
        ("speed=0.6", "from 0 to 0.5"),
        ("crop=0", "at most 1"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_to_do(setting: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_config("f1c1m5-dref", [setting])


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    file, trace = tmp_path / "c.yaml", tmp_path / "trace"
    file.write_text(f"lr: !!python/object/apply:os.mkdir ['{trace}']\n")
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        read_config(str(file))
    assert not trace.exists()


@given(st.floats(1e-9, 1.0), st.integers(0, 10**6), st.lists(st.text("ab/.", min_size=1).map(lambda s: s + "x"), max_size=3))
def test_what_is_written_is_read_back(lr: float, seed: int, data: list[str]) -> None:
    config = make_config({"lr": lr, "seed": seed, "data": data, "net": {"dim": 4}})
    assert make_config(config.to_dict()) == config


def test_each_key_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = [f.name for f in fields(TrainConfig) if f"`{f.name}`" not in text and f"`{f.name}." not in text]
    assert missing == []
