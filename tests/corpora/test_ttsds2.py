"""TTSDS2: other kinds of ratings stand in the same table."""

HEAD = "audio,dataset,system,rating_type,value,annotator,survey_part,page,id"


def test_only_ratings_of_naturalness_count(disk) -> None:
    disk.text(
        "ttsds2/subjective_results.csv",
        HEAD,
        "clean/xtts/p1.wav,clean,xtts,mos,4,A,1,1,1",
        "clean/xtts/p1.wav,clean,xtts,MOS,2,B,1,1,2",
        "clean/xtts/p1.wav,clean,xtts,smos,5,A,1,1,3",
        "wild/xtts/p1.wav,wild,xtts,mos,1,A,1,1,4",
        "wild/xtts/p2.wav,wild,xtts,cmos,-2,A,1,1,5",
    )
    clips = disk.clips("ttsds2", "train")
    assert list(clips) == ["clean/xtts/p1", "wild/xtts/p1"]
    clip = clips["clean/xtts/p1"]
    assert clip.metrics["mos_overall"] == 3.0 and clip.system_id == "clean-xtts" and clip.reference_id == "p1"
    assert clips["wild/xtts/p1"].system_id == "wild-xtts"
