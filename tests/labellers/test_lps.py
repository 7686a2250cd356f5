"""LPS: the decoder against the library's own, the distance against its definition, and a tiny random recogniser."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import Settings, Signals, lps

LONG, SMALL_I = "\u02d0", "\u026a"  # written so that nobody takes them for a colon and an i
VOCABULARY = {
    "<s>": 0,
    "<pad>": 1,
    "</s>": 2,
    "<unk>": 3,
    "n": 4,
    "s": 5,
    "t": 6,
    f"i{LONG}": 7,
    "tʃ": 8,
    f"a {SMALL_I}": 9,
    "ə5": 10,
}
ALPHABET = lps.Alphabet({i: token for token, i in VOCABULARY.items()})

text = st.text(alphabet=f"nsti{LONG}ʃə", max_size=12)


@pytest.mark.parametrize(
    ("ids", "transcript"),
    [
        ([], ""),
        ([1, 1, 1], ""),
        ([4, 4, 4], "n"),
        ([4, 1, 4], "nn"),  # a blank between two makes them two
        ([1, 8, 8, 1, 7, 7, 1], f"tʃi{LONG}"),
        ([9, 1], f"a{SMALL_I}"),  # spaces removed
        ([99], "<unk>"),
    ],
)
def test_greedy_ctc(ids: list[int], transcript: str) -> None:
    assert ALPHABET.transcript(ids) == transcript


@given(st.lists(st.sampled_from([4, 5, 7, 10]), max_size=8), st.data())
def test_a_transcript_survives_any_stretching_of_its_tokens(ids: list[int], data: st.DataObject) -> None:
    frames: list[int] = []
    for i in ids:
        frames += [1] * data.draw(st.integers(1, 3)) + [i] * data.draw(st.integers(1, 4))
    assert ALPHABET.transcript(frames) == "".join(ALPHABET.tokens[i] for i in ids)


@pytest.mark.parametrize("delimiter", [None, "t"])
@given(ids=st.lists(st.integers(0, 12), min_size=1, max_size=30))
def test_the_decoder_agrees_with_the_librarys(
    ids: list[int], delimiter: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = library_tokenizer(tmp_path_factory, delimiter)
    alphabet = lps.Alphabet(ALPHABET.tokens, delimiter=delimiter)
    assert alphabet.transcript(ids) == tokenizer.batch_decode([ids])[0].replace(" ", "")


_tokenizers: dict[str | None, object] = {}


def library_tokenizer(factory: pytest.TempPathFactory, delimiter: str | None):
    """The library's tokenizer without the phonemizer, which it asks for even though decoding does not use it."""
    if delimiter not in _tokenizers:
        module = pytest.importorskip("transformers.models.wav2vec2_phoneme.tokenization_wav2vec2_phoneme")

        class Decoder(module.Wav2Vec2PhonemeCTCTokenizer):
            def init_backend(self, phonemizer_lang: str) -> None:
                pass

        file = factory.mktemp("vocab") / "vocab.json"
        file.write_text(json.dumps(VOCABULARY), encoding="utf-8")
        _tokenizers[delimiter] = Decoder(str(file), word_delimiter_token=delimiter)
    return _tokenizers[delimiter]


@given(text.filter(bool), text)
def test_similarity_is_bounded_by_what_was_said(reference: str, clip: str) -> None:
    value = lps.similarity(reference, clip)
    assert value <= 1
    assert value >= 1 - max(len(reference), len(clip)) / len(reference)
    assert (value == 1) == (reference == clip)


@given(text.filter(bool), st.data())
def test_each_edit_costs_at_most_one_reference_character(reference: str, data: st.DataObject) -> None:
    edits = data.draw(st.integers(0, 4))
    clip = list(reference)
    for _ in range(edits):
        at = data.draw(st.integers(0, len(clip)))
        if data.draw(st.booleans()) or at == len(clip):
            clip.insert(at, "x")
        else:
            del clip[at]
    assert lps.similarity(reference, "".join(clip)) >= 1 - edits / len(reference) - 1e-12


@pytest.mark.parametrize(
    ("reference", "clip", "value"),
    [
        ("kæt", "", 0.0),
        ("kæt", "kæd", 2 / 3),
        (f"ti{LONG}", "ti", 2 / 3),  # the length mark is a character of its own
        ("n", "nstn", -2.0),  # insertions make it negative
    ],
)
def test_worked_examples(reference: str, clip: str, value: float) -> None:
    assert lps.similarity(reference, clip) == pytest.approx(value)


def test_a_reference_signal_without_phones_has_no_value() -> None:
    with pytest.raises(MeasureError, match="no phone was recognised in the reference signal"):
        lps.similarity("", "n")


@given(st.floats(0.001, 10), st.floats(-0.5, 0.5))
def test_normalised_is_blind_to_gain_and_offset(gain: float, offset: float) -> None:
    wave = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    out = lps.normalised(gain * wave + offset)
    assert abs(out.mean()) < 1e-5
    assert out.std() == pytest.approx(1 if gain > 0.1 else out.std(), abs=1e-3)
    assert np.allclose(out / out.std(), lps.normalised(wave), atol=1e-3)
    assert out.dtype == np.float32


def test_normalised_silence_is_silence() -> None:
    assert not lps.normalised(np.full(100, 0.25, np.float32)).any()


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_the_alphabet_is_read_from_the_models_files(tmp_path: Path) -> None:
    write(tmp_path, "vocab.json", VOCABULARY)
    assert lps.read_alphabet(tmp_path) == ALPHABET
    write(tmp_path, "special_tokens_map.json", {"pad_token": "[PAD]", "unk_token": {"content": "[UNK]", "lstrip": False}})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "word_delimiter_token": "|"})
    assert lps.read_alphabet(tmp_path) == lps.Alphabet(ALPHABET.tokens, "[PAD]", "[UNK]", "|")
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "Wav2Vec2CTCTokenizer"})
    assert lps.read_alphabet(tmp_path).delimiter == "|"


def test_a_vocabulary_per_language_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "vocab.json", {"eng": {"a": 0}})
    with pytest.raises(UsageError, match=r"vocab\.json"):
        lps.read_alphabet(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        num_hidden_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        vocab_size=len(VOCABULARY),
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    folder = tmp_path_factory.mktemp("ctc")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Wav2Vec2ForCTC(config)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape)
        model.lm_head.weight.data *= 3
        model.lm_head.bias.data.zero_()
    model.save_pretrained(folder)
    write(folder, "vocab.json", VOCABULARY)
    return folder


@pytest.fixture(scope="module")
def measure(folder: Path):
    return lps.load(Settings(weights={"lps": str(folder)}))


def by_hand(folder: Path, wave: np.ndarray) -> str:
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    values = Wav2Vec2FeatureExtractor(do_normalize=True)(wave, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        ids = Wav2Vec2ForCTC.from_pretrained(folder)(values).logits.argmax(-1)[0].tolist()
    return ALPHABET.transcript(ids)


def test_the_value_is_that_of_the_two_transcripts(folder: Path, measure, make_voice, add_noise) -> None:
    reference = make_voice(0, 0.6)
    wave = add_noise(make_voice(1, 0.6), 0)
    said = by_hand(folder, reference), by_hand(folder, wave)
    assert said[0] and said[0] != said[1]
    assert measure(Signals(wave, 16_000, reference)) == {"lps": lps.similarity(*said)}
    assert measure(Signals(reference, 16_000, reference)) == {"lps": 1.0}


def test_the_value_does_not_depend_on_the_level(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 0.6)
    noisy = add_noise(clean, 5)
    assert measure(Signals(0.5 * noisy, 16_000, clean)) == measure(Signals(noisy, 16_000, 0.5 * clean))


def test_the_models_own_word_on_normalisation_is_followed(folder: Path, tmp_path: Path, make_voice, add_noise) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write(tmp_path, "preprocessor_config.json", {"do_normalize": False})
    plain = lps.load(Settings(weights={"lps": str(tmp_path)}))
    clean = make_voice(0, 0.6)
    noisy = add_noise(clean, 5)
    values = {gain: plain(Signals(np.float32(gain) * noisy, 16_000, clean))["lps"] for gain in (0.001, 1, 30)}
    assert len(set(values.values())) > 1


def test_what_cannot_be_measured_is_said(measure, make_voice) -> None:
    clean = make_voice(0, 0.5)
    with pytest.raises(MeasureError, match="no reference signal"):
        measure(Signals(clean, 16_000))
    with pytest.raises(MeasureError, match="shorter than"):
        measure(Signals(clean[4000:4300], 16_000, clean[4000:4300]))
    broken = clean.copy()
    broken[5] = np.inf
    with pytest.raises(MeasureError, match="finite"):
        measure(Signals(broken, 16_000, clean))


def test_a_recogniser_that_hears_nothing(folder: Path, tmp_path: Path, make_voice) -> None:
    """Silent clip: 0. Nothing in the reference signal: no value."""
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state["lm_head.bias"][VOCABULARY["<pad>"]] = 1e6
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    deaf = lps.load(Settings(weights={"lps": str(tmp_path)}))
    clean = make_voice(0, 0.5)
    with pytest.raises(MeasureError, match="no phone was recognised"):
        deaf(Signals(clean, 16_000, clean))


def test_a_folder_without_a_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != "vocab.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UsageError, match=r"vocab\.json"):
        lps.load(Settings(weights={"lps": str(tmp_path)}))
