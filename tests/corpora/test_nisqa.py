"""NISQA: condition numbers that repeat between databases, prefixes of test sets, "book" files, float conditions."""

import pytest

HEAD = "db,con,file,filename_deg,filename_ref,lang,votes,mos,noi,mos_std"


def database(disk, name: str, *lines: str) -> None:
    disk.text(f"NISQA_Corpus/{name}/{name}_file.csv", HEAD, *lines)


def test_conditions_share_a_content_in_test_sets_only(disk) -> None:
    database(disk, "NISQA_TEST_P501", "P,3.0,x,c03_f1.wav,f1.wav,en,28,2.5,3.1,0.4", "P,4,x,c04_f1.wav,f1.wav,en,28,4,3,0.4")
    database(disk, "NISQA_TRAIN_SIM", "S,7,x,c00007_f1.wav,f1.wav,en,5,2,3,1")
    clips = disk.clips("nisqa", "test_p501")
    assert {clip.reference_id for clip in clips.values()} == {"f1"}
    assert [clip.system_id for clip in clips.values()] == ["NISQA_TEST_P501:3", "NISQA_TEST_P501:4"]
    (train,) = disk.clips("nisqa", "train").values()
    assert train.reference_id == "c00007_f1"


def test_book_files_repeat_their_condition_and_are_told_apart_by_what_follows_the_reference(disk) -> None:
    lines = [f"F,1,x,book_01_{tail}.wav,book_01.wav,de,20,3,3,1" for tail in ("ampA", "ampB")]
    database(disk, "NISQA_TEST_FOR", *lines, "F,1,x,c01_s1.wav,s1.wav,de,20,3,3,1")
    clips = list(disk.clips("nisqa", "test_for").values())
    assert [(c.system_id, c.reference_id) for c in clips] == [
        ("NISQA_TEST_FOR:ampA", "book_01"),
        ("NISQA_TEST_FOR:ampB", "book_01"),
        ("NISQA_TEST_FOR:1", "s1"),
    ]


def test_one_number_in_two_databases_is_two_systems_and_one_name_two_clips(disk) -> None:
    database(disk, "NISQA_TRAIN_SIM", "S,1,x,a.wav,r.wav,en,5,2,3,1")
    database(disk, "NISQA_TRAIN_LIVE", "L,1,x,a.wav,,en,5,4,3,1")
    clips = disk.clips("nisqa", "train")
    assert list(clips) == ["NISQA_TRAIN_SIM/a", "NISQA_TRAIN_LIVE/a"]
    assert len({clip.system_id for clip in clips.values()}) == 2


def test_the_mean_is_kept_with_its_deviation_and_the_reference_signal_if_it_is_there(disk) -> None:
    database(disk, "NISQA_TEST_P501", "P,1,x,c01_f1.wav,f1.wav,en,28,2.5,3.1,0.4", "P,1,x,c01_f2.wav,f2.wav,en,28,,3.1,")
    disk.wav("NISQA_Corpus/NISQA_TEST_P501/ref/f1.wav")
    one, two = disk.clips("nisqa", "test_p501").values()
    assert one.metrics == {"mos_overall": 2.5} and one.meta["mos_std"] == 0.4 and one.meta["noi"] == 3.1
    assert one.reference_path.endswith("ref/f1.wav") and two.reference_path is None
    assert two.metrics == {"mos_overall": None} and "mos_std" not in two.meta


@pytest.mark.parametrize("inside", ["NISQA_Corpus", ""])
def test_the_inner_folder_may_be_the_root(disk, inside: str) -> None:
    database(disk, "NISQA_VAL_LIVE", "L,1,x,a.wav,,en,5,4,3,1")
    disk.root = disk.root / inside
    assert list(disk.clips("nisqa", "dev")) == ["NISQA_VAL_LIVE/a"]


def test_the_conditions_of_p501_make_the_published_number_of_ordered_pairs(disk) -> None:
    """Table 3 of the UrgentMOS paper: 4 contents x 60 conditions -> 14,160."""
    names = [(con, f"s{content}") for con in range(1, 61) for content in range(4)]
    database(disk, "NISQA_TEST_P501", *(f"P,{con},x,c{con:02d}_{ref}.wav,{ref}.wav,en,9,3,3,1" for con, ref in names))
    systems: dict[str, set[str]] = {}
    for clip in disk.clips("nisqa", "test_p501").values():
        systems.setdefault(clip.reference_id, set()).add(clip.system_id)
    assert sum(len(s) * (len(s) - 1) for s in systems.values()) == 14_160
