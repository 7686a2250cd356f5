"""Names of the paper, and what they mean."""

import pytest
import torch

from urgentmos.errors import UsageError
from urgentmos.metrics import CATEGORIES, METRICS, TABLE1
from urgentmos.nets import known
from urgentmos.nets.presets import parse_preset, read_preset
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig


@pytest.mark.parametrize("f", [1, 4])
@pytest.mark.parametrize(("c", "m"), [(1, 1), (1, 5), (1, 15), (5, 15)])
@pytest.mark.parametrize(("d", "scope"), [("ref", "reference"), ("corpus", "corpus"), ("any", "any")])
def test_every_name_that_the_paper_defines(f, c, m, d, scope):
    name = f"f{f}c{c}m{m}-d{d}"
    preset, config = read_preset(name), parse_preset(name)
    assert preset.scope == scope
    assert len(config.encoders) == f and len(config.categories) == c and len(config.metrics) == m
    assert "mos_overall" in config.categories[config.preference]
    assert read_preset(name.upper()) == preset
    assert UrgentMosConfig.from_dict(config.to_dict()) == config


def test_categories_and_ranges_are_those_of_table_1():
    config = parse_preset("f1c5m15-dref")
    assert tuple(config.categories) == CATEGORIES
    assert set(config.metrics) == set(TABLE1)
    assert config.preference == "naturalness"
    for category, ranges in config.categories.items():
        for metric, bounds in ranges.items():
            assert METRICS[metric].category == category and bounds == METRICS[metric].range("paper")


def test_one_category_is_called_mos_and_five_metrics_are_the_natural_ones():
    config = parse_preset("f1c1m5-dref")
    assert list(config.categories) == ["mos"]
    assert set(config.metrics) == {"mos_overall", "utmos", "distill_mos", "nisqa_mos", "scoreq"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("f2c1m1-dref", "f2"),
        ("f1c3m15-dref", "c3"),
        ("f1c1m2-dref", "m2"),
        ("f1c1m1-dall", "dall"),
        ("f1c5m5-dref", "fills only 1 category"),
        ("f1c1m1", "not the name"),
        ("f1c1m1-dref; rm", "not the name"),
        ("", "not the name"),
    ],
)
def test_other_names_are_refused_with_what_is_possible(name, said):
    with pytest.raises(UsageError, match=said) as e:
        parse_preset(name)
    assert "f1c1m5-dref" in str(e.value)


def test_sizes():
    assert parse_preset("f1c1m1-dref").encoders[0].name == known.WAVLM_BASE_PLUS
    large = parse_preset("f4c1m1-dref", "large")
    assert [encoder.name for encoder in large.encoders] == [known.WAVLM_LARGE, *known.F4[1:]]
    pocket = parse_preset("f1c5m15-dref", "pocket")
    assert pocket.encoders[0].kind == "conv" and not pocket.encoders[0].frozen
    assert sum(p.numel() for p in UrgentMos(pocket).parameters()) < 6e6
    with pytest.raises(UsageError, match="f1"):
        parse_preset("f4c1m1-dref", "pocket")
    with pytest.raises(UsageError, match="pocket"):
        parse_preset("f1c1m1-dref", "huge")


def test_the_paper_sizes_build():
    """On the meta device, so that nothing is allocated: widths of all encoders fit, 5376 features are fused (base)."""
    with torch.device("meta"):
        base = UrgentMos(parse_preset("f4c1m5-dref"))
        large = UrgentMos(parse_preset("f1c1m5-dref", "large"))
    assert base.fusion.linear.in_features == 768 + 1280 + 2048 + 1280
    assert base.fusion.linear.out_features == 768
    assert large.fusion.linear.in_features == 1024
    assert len(base.encoders[0].weights) == 13 and len(large.encoders[0].weights) == 25
    assert base.encoders[2].weights is None and base.encoders[3].weights is None
