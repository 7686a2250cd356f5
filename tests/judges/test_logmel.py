"""The log-mel in numpy: the numbers of the network's own front end, for any clip, size and level."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.judges.logmel import LogMel, htk_filters

torch = pytest.importorskip("torch")

from urgentmos.nets import conv, spectra  # noqa: E402
from urgentmos.nets.conv import ConvConfig, ConvMel  # noqa: E402
from urgentmos.nets.encoder import normalised  # noqa: E402

# Both are float32: in bands 80 dB below the clip's loudness neither is closer than this to float64.
TOLERANCE = 3e-4


def of_the_net(wave: np.ndarray, n_fft: int, hop: int, bands: int) -> np.ndarray:
    """(F, bands) by torch."""
    mel = ConvMel(ConvConfig(bands=bands, n_fft=n_fft, hop=hop))
    return mel(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0].numpy()


@settings(max_examples=25)
@given(
    size=st.integers(257, 9000),
    shape=st.sampled_from([(400, 160, 80), (512, 320, 64), (400, 200, 16)]),
    level=st.floats(-80, 0),
    seed=st.integers(0, 99),
)
def test_the_numbers_are_those_of_the_network(size: int, shape: tuple[int, int, int], level: float, seed: int) -> None:
    n_fft, hop, bands = shape
    wave = (10 ** (level / 20) * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)
    got = LogMel(n_fft, hop, bands, 16_000)(wave)
    assert got.dtype == np.float32 and got.shape == (1 + size // hop, bands)
    want = of_the_net(wave, n_fft, hop, bands)
    share = 10 ** (2 * want - 4)  # of the clip's loudness, in each band
    # A Fourier transform rounds by a part of the frame's amplitude: where chance leaves a band next to nothing, the log shows.
    rounding = 0.1 * np.finfo(np.float32).eps / np.sqrt(share)
    assert np.all(np.abs(got - want) <= 1e-5 + rounding)


def test_speech_with_pauses_is_heard_alike(make_voice) -> None:
    wave = np.concatenate([make_voice(0, 1.0), np.zeros(8000, np.float32), 0.01 * make_voice(1, 1.0)])
    got, want = LogMel(400, 160, 80, 16_000)(wave), of_the_net(wave, 400, 160, 80)
    np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=0)
    assert np.abs(got - want).mean() < 1e-5 and got.std() > 0.3


@pytest.mark.parametrize("wave", [np.zeros(4000, np.float32), np.full(4000, 1e-30, np.float32)], ids=["silence", "nearly"])
def test_silence_is_the_floor(wave: np.ndarray) -> None:
    np.testing.assert_array_equal(LogMel(400, 160, 80, 16_000)(wave), of_the_net(wave, 400, 160, 80))


def test_the_shortest_clip_is_heard() -> None:
    front = LogMel(400, 160, 80, 16_000)
    assert front(np.ones(front.min_samples, np.float32)).shape == (2, 80)


def test_normalising_is_that_of_the_encoders(make_voice) -> None:
    wave = 0.3 + 5 * make_voice(2, 1.0)
    scaled = normalised(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0].numpy()
    got, want = LogMel(400, 160, 80, 16_000, normalise=True)(wave), LogMel(400, 160, 80, 16_000)(scaled)
    np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=0)
    assert np.abs(got - LogMel(400, 160, 80, 16_000)(wave)).max() > 0.1, "the mean of the samples is gone"


def test_constants_are_those_of_the_network() -> None:
    from urgentmos.judges import logmel

    assert (logmel.FLOOR, logmel.SILENCE) == (conv.FLOOR, conv.SILENCE)
    np.testing.assert_array_equal(htk_filters(201, 80, 16_000), spectra.htk_filters(201, 80).numpy())
    assert not htk_filters(201, 80, 16_000).flags.writeable, "it is shared"


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    """BLAS divides a large product among threads, and adds up in another order."""
    code = (
        "import hashlib, numpy as np\nfrom urgentmos.judges.logmel import LogMel\n"
        "wave = 0.1 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32)\n"
        "print(hashlib.sha256(LogMel(512, 160, 64, 16_000)(wave).tobytes()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(told) == 1 and told != {""}
