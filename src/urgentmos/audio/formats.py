"""File formats by their names: recordings that are decoded, other sound, archives."""

import os

AV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".amr", ".webm", ".mka", ".wma", ".3gp"})  # decoded by FFmpeg's libraries
AUDIO_SUFFIXES = (
    frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"}) | AV_SUFFIXES
)
AUDIO_ENDINGS = " ".join(sorted(AUDIO_SUFFIXES))  # for messages

COMPRESSED_TAR_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
TAR_ENDINGS = (".tar", *COMPRESSED_TAR_ENDINGS)
ZIP_ENDINGS = (".zip",)
ARCHIVE_ENDINGS = (*TAR_ENDINGS, *ZIP_ENDINGS)
PARQUET_ENDINGS = (".parquet", ".pq")

# Sound, or video with sound, that is not decoded. A suffix of AUDIO_SUFFIXES does not count.
_FOREIGN = """
    mp1 mp2 mpa mpga m4b m4r m4v mov mkv avi flv wmv wma ac3 eac3 dts ra rm ape mpc tta wv shn ofr tak dsf dff spx sph nist raw
    pcm sw sb ub uw ul al ulaw alaw gsm vox g722 g726 g729 amr awb 3gp 3g2 aifc snd voc avr sd2 ircam sf paf svx 8svx xi htk
    weba adts bwf silk evs lc3 qcp wve
"""
FOREIGN_SUFFIXES = frozenset(f".{ending}" for ending in _FOREIGN.split())


def suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_sound(name: str) -> bool:
    """Whether the name is that of a recording that is read."""
    return suffix_of(name) in AUDIO_SUFFIXES


def is_foreign(name: str) -> bool:
    """Whether the name is that of sound which is not read."""
    return suffix_of(name) in FOREIGN_SUFFIXES - AUDIO_SUFFIXES
