"""The runner: splits by content, overlap by sound, everything counted; and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from urgentmos import corpora
from urgentmos.cli import main
from urgentmos.clips.inputs import read_clips
from urgentmos.corpora import About, Corpus, Count, NotOnDisk, Source, get
from urgentmos.corpora.prepare import prepare, side
from urgentmos.errors import UsageError

CUSTOM = {"audio_path": "wav", "mos_overall": "score", "system_id": "model", "reference_id": "text"}
KEYS = [f"{key}={value}" for key, value in CUSTOM.items()]


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 800), 8000)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two systems on 30 contents."""
    root = tmp_path / "root"
    lines = ["wav,score,model,text"]
    for i in range(30):
        for system in "ab":
            write(root / f"{system}/{i}.wav", hash((system, i)) % 2**32)
            lines.append(f"{system}/{i}.wav,{1 + i % 5},{system},t{i}")
    (root / "my.csv").write_text("\n".join(lines))
    return root


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prepare", *map(str, arguments)], catch_exceptions=False)


# ---- splits


@given(st.lists(st.text(max_size=8)), st.floats(0, 0.5), st.floats(0, 0.49))
def test_a_side_is_a_function_of_the_content_and_a_larger_share_keeps_the_smaller(names, share, more) -> None:
    small, large = ({name for name in names if side(name, s) == "dev"} for s in (share, share + more))
    assert small <= large and {name for name in reversed(names) if side(name, share) == "dev"} == small
    assert all(side(name, 0.0) == "train" for name in names)


def test_the_share_is_about_what_was_asked_for() -> None:
    names = [f"utt{i:04d}" for i in range(4000)]
    assert np.mean([side(name, 0.1) == "dev" for name in names]) == pytest.approx(0.1, abs=0.02)


def test_the_dev_set_leaves_train_something_to_hold_out() -> None:
    """`train` splits by content too; the two choices are independent."""
    from urgentmos.clips.pairs import split_of

    left = [name for name in (f"utt{i:04d}" for i in range(2000)) if side(name, 0.1) == "train"]
    assert {split_of(name) for name in left} == {split_of(f"x{i}") for i in range(2000)}


def test_no_content_is_on_two_sides(corpus: Path, tmp_path: Path) -> None:
    done = prepare(get("custom"), corpus, tmp_path / "out", options=CUSTOM, dev_share=0.3)
    train, dev = ({row["reference_id"] for row in rows(tmp_path / f"out/{name}.jsonl")} for name in ("train", "dev"))
    assert train and dev and not train & dev and len(train | dev) == 30
    assert sum(len(split.clips) for split in done.splits) == 60 and done.warnings == []


def test_few_contents_may_leave_dev_empty_which_is_told(corpus: Path, tmp_path: Path) -> None:
    done = prepare(get("custom"), corpus, tmp_path / "out", options=CUSTOM, dev_share=1e-6)
    assert [split.name for split in done.splits] == ["train"] and "no content fell into dev" in done.warnings[0]


# ---- manifests


def test_a_manifest_is_read_back_with_paths_that_open(corpus: Path, tmp_path: Path) -> None:
    prepare(get("custom"), corpus, tmp_path / "out", options=CUSTOM, dev_share=0)
    clips = read_clips([tmp_path / "out/train.jsonl"])
    assert len(clips) == 60 and all(Path(clip.audio_path).is_file() and clip.duration == 0.1 for clip in clips)
    assert clips[0].system_id == "a" and clips[0].metrics == {"mos_overall": 1.0}


def test_everything_that_was_read_is_written_or_left_out_with_a_reason(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a/3.wav").unlink()
    (corpus / "b/4.wav").write_bytes(b"RIFF")
    done = prepare(get("custom"), corpus, tmp_path / "out", options=CUSTOM, dev_share=0)
    left = {row["uid"]: row["error"] for row in rows(tmp_path / "out/left_out.jsonl")}
    assert set(left) == {"custom:a/3", "custom:b/4"} and "does not exist" in left["custom:a/3"]
    assert len(done.splits[0].clips) == 58
    for path, seed in ((corpus / "a/3.wav", 1), (corpus / "b/4.wav", 2)):
        write(path, seed)
    prepare(get("custom"), corpus, tmp_path / "out", options=CUSTOM, dev_share=0)
    assert not (tmp_path / "out/left_out.jsonl").exists()


def test_the_order_is_the_corpus_order_with_any_number_of_threads(corpus: Path, tmp_path: Path) -> None:
    for jobs in (1, 4):
        prepare(get("custom"), corpus, tmp_path / f"out{jobs}", options=CUSTOM, dev_share=0.2, jobs=jobs)
    for name in ("train", "dev"):
        one, four = (rows(tmp_path / f"out{jobs}/{name}.jsonl") for jobs in (1, 4))
        assert one == four


def counted(clips: list[Any], count: Count) -> Corpus:
    about = About("t", "l", "c", "p")
    return Corpus("made", about, ("train",), {"train": count}, lambda root, split: iter(clips), None)


@pytest.mark.parametrize(("published", "warned"), [(60, []), (61, ["train: 60 clips, but 61 were published (a page; why)"])])
def test_counts_that_differ_are_told_before_dev_is_taken_out(corpus: Path, tmp_path: Path, published, warned) -> None:
    clips = list(get("custom").clips(corpus, "train", **CUSTOM))  # type: ignore[misc]
    made = counted(clips, Count(published, 2, source="a page", note="why"))
    assert prepare(made, corpus, tmp_path / "out", dev_share=0.3).warnings == warned


def test_scores_outside_the_scale_are_told(corpus: Path, tmp_path: Path) -> None:
    text = (corpus / "my.csv").read_text()
    (corpus / "my.csv").write_text(text.replace("a/0.wav,1,", "a/0.wav,0,"))
    done = prepare(get("custom"), corpus, tmp_path / "out", options=CUSTOM, dev_share=0)
    assert done.warnings == [
        "train: 1 of 60 values of mos_overall lie outside 1 .. 5 and are left out, the first: custom:a/0 (0). "
        "Correct them or leave them empty."
    ]
    assert [row["error"] for row in done.splits[0].left_out] == ["no score"]


# ---- overlap


def test_a_recording_in_two_splits_is_found_by_its_sound(corpus: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(corpus / "a/0.wav")
    soundfile.write(corpus / "copy.flac", wave, rate)
    lines = (corpus / "my.csv").read_text().splitlines()
    table = [f"{lines[0]},set", *(f"{line},train" for line in lines[1:]), "copy.flac,3,c,other,test"]
    (corpus / "my.csv").write_text("\n".join(table))
    done = prepare(get("custom"), corpus, tmp_path / "out", options={**CUSTOM, "split": "set"}, dev_share=0)
    (said,) = done.warnings
    assert said.startswith("train and test share 1 recordings, e.g. custom:a/0 is custom:copy")


def test_overlap_with_another_corpus_is_found_and_a_manifest_without_hashes_refused(corpus: Path, tmp_path: Path) -> None:
    prepare(get("custom"), corpus, tmp_path / "one", options=CUSTOM, dev_share=0)
    other = tmp_path / "one/train.jsonl"
    done = prepare(get("custom"), corpus, tmp_path / "two", options=CUSTOM, dev_share=0, against=[other])
    assert f"train and {other} share 60 recordings" in done.warnings[0]
    other.write_text('{"uid": "x", "audio_path": "x.wav"}\n')
    with pytest.raises(UsageError, match=r"meta\.audio_hash"):
        prepare(get("custom"), corpus, tmp_path / "two", options=CUSTOM, against=[other])


# ---- the command


def test_the_command_writes_manifests_and_tells_what_it_did(corpus: Path, tmp_path: Path) -> None:
    done = run("custom", corpus, *KEYS, "-o", tmp_path / "out", "--dev-share", "0.3")
    assert done.exit_code == 0
    summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["split"] for row in summary] == ["train", "dev"] and sum(row["clips"] for row in summary) == 60
    assert str(tmp_path / "out/train.jsonl") in done.stderr


def test_rows_that_cannot_be_used_are_exit_status_1(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a/3.wav").unlink()
    done = run("custom", corpus, *KEYS, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "1 rows cannot be used" in done.stderr and "custom:a/3" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bvc", "."), "'bvcc'"),
        (("bvcc", "nowhere"), "nowhere: no such folder. BVCC (VoiceMOS 2022 main track) (licence: custom"),
        (("bvcc", "."), "sets/TRAINSET is not there"),
        (("bvcc", ".", "--split", "valid"), "bvcc has no split 'valid'. Choose from: train, dev, test."),
        (("bvcc", ".", "subset=x"), "bvcc does not know subset="),
        (("somos", ".", "subset"), "'subset' is not understood. Options of a corpus are written KEY=VALUE."),
        (("custom", ".", "--download"), "nothing to download"),
    ],
)
def test_what_is_not_understood_is_exit_status_2(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2 and said in done.stderr
    assert not list(tmp_path.iterdir()), "no empty folder stays behind"


def test_a_download_begins_with_the_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as z:
        z.write(corpus / "a/0.wav", "TencentCorups/w/1.wav")
        z.writestr("TencentCorups/withReverberationTrainDevMOS.csv", "deg_wav,mos\n./w/1.wav,3\n")
    chosen = get("tencent")
    about = About("Tencent", "a licence", "cite", "page", (Source((tmp_path / "x.zip").as_uri(), "t.zip"),))
    made = Corpus(chosen.name, about, chosen.splits, chosen.counts, chosen.clips, None)
    monkeypatch.setattr(corpora, "get", lambda name: made)
    done = run("tencent", tmp_path / "fetched", "--download", "-o", tmp_path / "out", "--dev-share", "0")
    assert done.exit_code == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "Tencent. Licence: a licence. Cite: cite. Page: page"
    assert lines[1].startswith("t.zip: SHA-256 ") and "none is published" in lines[1]
    assert rows(tmp_path / "out/train.jsonl")[0]["uid"] == "tencent:w_1"


def test_nothing_is_fetched_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urgentmos.corpora import download as fetching

    monkeypatch.setattr(fetching, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(NotOnDisk):
        prepare(get("tencent"), tmp_path, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert run("tencent", ".").exit_code == 2
    assert not list(tmp_path.iterdir())
