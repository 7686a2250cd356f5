"""Model folders on the Hugging Face hub. Nothing is fetched unless a hub id was named, and no code of a repository runs."""

import re
from pathlib import Path

from urgentmos.errors import UsageError, need
from urgentmos.releases import RELEASES, Release

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-]+))?")
FILES = ("config.json", "model.safetensors", "MODEL_CARD.md")


def is_hub_id(name: str) -> bool:
    """Whether `name` reads as "org/name" or "org/name@revision"."""
    return HUB_ID.fullmatch(name) is not None


def release_of(name: str) -> Release | None:
    """The release that is called `name`, or whose repository is the only one of that id."""
    rows = [row for row in RELEASES.values() if name in (row.name, row.repo)]
    return rows[0] if len(rows) == 1 else None


def pull(hub_id: str) -> Path:
    """The local copy of a model folder on the hub. UsageError with the reason if it cannot be had."""
    parts = HUB_ID.fullmatch(hub_id)
    if parts is None:
        raise UsageError(f"{hub_id!r} is no hub id. Write org/name or org/name@revision.")
    hub = need("huggingface_hub", "models")
    try:
        folder = hub.snapshot_download(parts["repo"], revision=parts["revision"], allow_patterns=list(FILES))
    except Exception as e:  # no network, no such repository, gated, offline mode: several libraries' own classes
        raise UsageError(
            f"{hub_id} is no local path and could not be fetched from the hub ({type(e).__name__}: {e}). "
            "Check the name and the connection, or fetch it on another machine and give the folder."
        ) from e
    return Path(folder)


def push(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Upload a model folder (config, weights, card; nothing else in it) to the hub and return its address.

    The repository is made if there is none, private unless asked otherwise; the token is that of huggingface_hub. UsageError
    if the folder is no model, or the hub refuses.
    """
    from urgentmos.checkpoints import load

    load(folder)
    hub = need("huggingface_hub", "models")
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repo, folder_path=str(folder), allow_patterns=list(FILES)))
    except Exception as e:
        raise UsageError(
            f"{folder} could not be pushed to {repo} ({type(e).__name__}: {e}). Check the name and the token."
        ) from e
