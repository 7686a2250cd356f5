"""Scores as other tools write them, and clips that are named by their files."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.foreign import parts_of, same_file
from urgentmos.clips.inputs import read_clips
from urgentmos.errors import UsageError
from urgentmos.evaluation.agreement import Resampling
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import read_source
from urgentmos.evaluation.summary import evaluate

CLIPS = [(f"sys{s}-utt{i}", s, i, round(1.2 + 0.7 * s + 0.3 * i, 2)) for s in range(3) for i in range(4)]
REFS = "uid,system_id,reference_id,mos_overall\n" + "".join(f"{u},s{s},u{i},{m}\n" for u, s, i, m in CLIPS)
TOOLS = {
    "nisqa.csv": ("deg,mos_pred,noi_pred,dis_pred,col_pred,loud_pred,model", "{u}.wav,{m},3,3,3,3,NISQAv2", "nisqa_mos"),
    "nisqa_tts.csv": ("deg,mos_pred,model", "{u}.wav,{m},NISQA_TTS", "nisqa_mos"),
    "dnsmos.csv": (
        "filename,len_in_sec,sr,num_hops,OVRL_raw,SIG_raw,BAK_raw,OVRL,SIG,BAK,P808_MOS",
        "/x/{u}.wav,3.0,16000,1,3,3,3,{m},3,3,3",
        "dnsmos_ovrl",
    ),
    "answer.csv": ("", "{u},{m}", "mos_overall"),
    "answer.txt": ("", "{u}.wav,{m}", "mos_overall"),
    "named.txt": ("uid,score", "{u},{m}", "mos_overall"),
    "spaces.txt": ("", "{u} {m}", "spaces"),
    "semicolon.csv": ("path;score", "/x/{u}.flac;{m}", "mos_overall"),
    "windows.csv": ("file,UTMOS", "C:\\\\x\\\\{u}.wav,{m}", "utmos"),
    "utmos.scp": ("", "{u} {m}", "utmos"),
    "wav.tsv": ("wav_path\tutmos", "./{u}.wav\t{m}", "utmos"),
}


def evaluated(folder: Path, predictions: str, references: str, name: str = "p.csv") -> dict:
    (folder / name).write_text(predictions)
    (folder / "r.csv").write_text(references)
    return evaluate(read_source(folder / name), read_source(folder / "r.csv"), Options(resampling=Resampling(0)))


@pytest.mark.parametrize("name", TOOLS)
def test_scores_of_other_tools_are_read(name, tmp_path):
    head, line, metric = TOOLS[name]
    rows = [line.format(u=u, m=m) for u, _, _, m in CLIPS]
    report = evaluated(tmp_path, "\n".join([head] * bool(head) + rows) + "\n", REFS, name)
    assert report["utterance"][metric]["n"] == 12 and report["utterance"][metric]["lcc"] == pytest.approx(1)
    assert report["system"][metric]["n"] == 3 and not any(found["n"] for found in report["ids"].values())


def test_files_match_by_as_much_of_their_path_as_both_have(tmp_path):
    refs = "audio_path,system_id,reference_id,mos_overall\n" + "".join(
        f"wav/s{s}/u{i}.wav,s{s},u{i},{m}\n" for _, s, i, m in CLIPS
    )
    preds = "deg,mos_pred\n" + "".join(f"/data/wav/s{s}/u{i}.wav,{m}\n" for _, s, i, m in CLIPS)
    assert evaluated(tmp_path, preds, refs)["utterance"]["nisqa_mos"]["n"] == 12


def test_two_clips_of_one_stem_are_refused(tmp_path):
    refs = "audio_path,mos_overall\na/u.wav,3\nb/u.wav,4\n"
    with pytest.raises(UsageError, match=r"p.csv: u.wav may be a/u or b/u of .*r.csv.*same uid per clip"):
        evaluated(tmp_path, "deg,mos_pred\nu.wav,3\n", refs)
    with pytest.raises(UsageError, match=r"r.csv: u may be a/u or b/u of .*p.csv"):
        evaluated(tmp_path, "deg,mos_pred\na/u.wav,3\nb/u.wav,4\n", "uid,mos_overall\nu,3\n")


def test_ids_that_name_no_file_match_whole_or_not_at_all(tmp_path):
    report = evaluated(tmp_path, "uid,score\nold/u,3\nv,2\nw,4\n", "uid,mos_overall\nu,3\nv,2\nw,4\n")
    assert report["ids"]["predicted_without_reference"] == {"n": 1, "first": ["old/u"]}


def test_pairs_are_about_files_too(tmp_path):
    preds = "deg,mos_pred\nx.wav,4\ny.wav,2\n"
    report = evaluated(tmp_path, preds, "a,b,verdict\nx,y,a\n")
    assert report["preference"]["nisqa_mos"]["acc_0"] == 1.0


@given(st.text(min_size=1, max_size=8).filter(lambda s: s.strip() == s and not set(s) & set('\r\n\0"')))
def test_both_forms_of_a_name_are_one(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names")
    forms = [unicodedata.normalize(form, f"é{name}") for form in ("NFC", "NFD")]
    for uid_key in ("uid", "a"):
        texts = [f'"{form.replace(chr(34), chr(34) * 2)}"' for form in forms]
        if uid_key == "uid":
            report = evaluated(folder, f"uid,score\n{texts[0]},3\nz,4\n", f"uid,mos_overall\n{texts[1]},3\nz,4\n")
            assert report["utterance"]["mos_overall"]["n"] == 2
        else:
            report = evaluated(folder, f"uid,score\n{texts[0]},3\nz,4\n", f"a,b,verdict\n{texts[1]},z,b\n")
            assert report["preference"]["mos_overall"]["n_0"] == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "which,mos_pred\n" + "x,3\n" * 20,
            "has no column with the ids of the clips, but which, mos_pred. Call the column with the ids uid.",
        ),
        ("u1,3,x\nu2,4,y\n", "line 1 looks like data: the file needs a header. Write one, e.g. uid,score."),
    ],
)
def test_what_is_wrong_with_a_file_is_said_once(text, sentence, tmp_path):
    with pytest.raises(UsageError) as e:
        evaluated(tmp_path, text, REFS)
    assert str(e.value) == f"{tmp_path / 'p.csv'}: {sentence}"


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("deg,mos_pred", "rename 'deg' to 'audio_path'"),
        ("Audio_Path,mos", "rename 'Audio_Path' to 'audio_path'"),
        ("Audio Path,mos", "rename 'Audio Path' to 'audio_path'"),
        ("a/x.wav,3.5", "Line 1 looks like data: the file needs a header"),
    ],
)
def test_a_manifest_of_others_says_which_column_to_rename(header, sentence, tmp_path):
    (tmp_path / "m.csv").write_text(f"{header}\na.wav,3\n")
    with pytest.raises(UsageError, match=re.escape(sentence)):
        read_clips(tmp_path / "m.csv")


def test_a_column_is_a_metric_where_it_is_asked_for_as_one(tmp_path):
    (tmp_path / "p.csv").write_text("uid,my_mos\na,3.50\nb,2\nc,1.0\n")
    source = read_source(tmp_path / "p.csv", numbers=["my_mos"])
    assert [row.values for row in source.clips] == [{"my_mos": 3.5}, {"my_mos": 2.0}, {"my_mos": 1.0}]
    (tmp_path / "p.csv").write_text("uid,my_mos\na,3.50\nb,good\n")
    with pytest.raises(UsageError, match="line 3: my_mos: 'good' is not a number"):
        read_source(tmp_path / "p.csv", numbers=["my_mos"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x/u.wav", "u", True),
        ("x/u", "y/u", False),
        ("u.wav", "u.flac", True),
        ("C:\\a\\u.wav", "a/u", True),
        ("/", "u", False),
    ],
)
def test_names_of_files(one, other, same):
    assert same_file(parts_of(one), parts_of(other)) is same
