"""Model folders on the Hugging Face hub. Nothing is fetched unless a hub id was named, and no code of a repository runs."""

import os
import re
from pathlib import Path

from urgentmos.common.names import nearest
from urgentmos.common.untrusted import reason, shown
from urgentmos.errors import UsageError, need
from urgentmos.models.releases import RELEASES, Release

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-]+))?")
FILES = ("config.json", "model.safetensors", "MODEL_CARD.md")


def is_hub_id(name: str) -> bool:
    """Whether `name` reads as "org/name" or "org/name@revision"."""
    return HUB_ID.fullmatch(name) is not None


def check_not_a_path(name: str) -> None:
    """UsageError if `name` has the form of a hub id and is rather the misspelled path of a folder.

    It is one where its first folder exists here, or a folder here is nearly called like that and holds what the name ends in.
    "org/name@revision" is always a hub id.
    """
    if not is_hub_id(name) or "@" in name or os.path.exists(name):
        return
    folder, _, last = name.partition("/")
    near = nearest_path(name)
    if near is not None or os.path.isdir(folder):
        meant = f"Did you mean {near}?" if near else f"There is no {last} in {folder}."
        raise UsageError(f"there is no folder {name}. {meant} If it is a model on the hub, write {name}@main.")


def nearest_path(name: str) -> str | None:
    """The folder here that a path of the form FOLDER/NAME, which does not exist, may mean; None if none is like it."""
    path = os.path.normpath(name) if name else "."
    folder, last = os.path.split(path)
    above, first = os.path.split(folder)
    if not folder:
        return None
    if os.path.isdir(folder):
        near = [os.path.join(folder, other) for other in nearest(last, _folders(folder), 1)]
    else:
        others = (os.path.join(above, other) for other in nearest(first, _folders(above or "."), 3))
        near = [os.path.join(other, last) for other in others if os.path.isdir(os.path.join(other, last))]
    return near[0] if near else None


def _folders(place: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(place) if entry.is_dir()]
    except OSError:
        return []


def release_of(name: str) -> Release | None:
    """The release that is called `name`, or whose repository is the only one of that id."""
    rows = [row for row in RELEASES.values() if name in (row.name, row.repo)]
    return rows[0] if len(rows) == 1 else None


def pull(hub_id: str) -> Path:
    """The local copy of a model folder on the hub. UsageError with the reason if it cannot be had."""
    parts = HUB_ID.fullmatch(hub_id)
    if parts is None:
        raise UsageError(f"{shown(hub_id, 200)} is no hub id. Write org/name or org/name@revision.")
    hub = need("huggingface_hub", "models")
    try:
        folder = hub.snapshot_download(parts["repo"], revision=parts["revision"], allow_patterns=list(FILES))
    except Exception as e:  # no network, no such repository, gated, offline mode: several libraries' own classes
        raise UsageError(
            f"{hub_id} is no local path and could not be fetched from the hub ({type(e).__name__}: {reason(e)}). "
            "Check the name and the connection, or fetch it on another machine and give the folder."
        ) from e
    return Path(folder)
