import pytest
import torch

from urgentmos.nets.ampm import Ampm
from urgentmos.nets.stacked import Stacked

CATEGORIES = {
    "noise": {"pesq": (1.0, 4.7), "sdr": (float("-inf"), float("inf"))},
    "natural": {"mos_overall": (1.0, 5.0)},
    "words": {"estoi": (0.0, 1.0), "lps": (float("-inf"), 1.0), "wer": (0.0, float("inf"))},
}


def ampm(names: tuple[str, ...], layers: int) -> Ampm:
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 4, "feedforward": 24, "layers": layers, "dropout": 0.3, "pooler": "mean"}
    made = Ampm({name: CATEGORIES[name] for name in names}, **sizes)
    for parameter in made.parameters():  # norms and biases, too, are unlike in every category
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.mark.parametrize("names", [("noise",), ("noise", "natural"), ("words", "noise", "natural")])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("frames", [1, 7])
@torch.no_grad()
def test_side_by_side_is_one_by_one(names: tuple[str, ...], layers: int, frames: int) -> None:
    net = ampm(names, layers)
    x, n = torch.randn(1, frames, 16), torch.tensor([frames])
    stacked = Stacked(net)
    together = stacked(x)
    alone = net.encode(x, n)
    assert stacked.names == names and together.shape == (len(names), frames, 16)
    for k, name in enumerate(names):
        torch.testing.assert_close(together[k : k + 1], alone[name], atol=2e-5, rtol=1e-5)
    logits = torch.stack(list(net.frame_logits(alone, n).values()), dim=2)
    torch.testing.assert_close(stacked.frame_logits(together), logits, atol=5e-5, rtol=1e-5)
