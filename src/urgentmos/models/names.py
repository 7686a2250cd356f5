"""Names of models behind -m: a packaged model, a release, a folder, a file, or a hub id."""

from collections.abc import Sequence
from pathlib import Path

from urgentmos.common.packaged import PACKAGED
from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.models.hub import check_not_a_path, is_hub_id, nearest_path, release_of
from urgentmos.models.releases import RELEASES


def resolve(model: str | Path, metrics: Sequence[str] = ()) -> str | Path:
    """Return the folder of a packaged model; any other path, release or hub id as it is.

    A packaged model comes before a local folder of the same name: "./pocket" is the folder.

    Args:
        model: What the user named.
        metrics: Names of measured metrics, which an error lists as well.

    Raises:
        UsageError: If nothing has that name. The error lists the names that exist, and a path that is spelled nearly alike.
    """
    name = str(model)
    if name in PACKAGED:
        return PACKAGED[name]
    if name in RELEASES:
        return model
    if not Path(model).exists() and not is_hub_id(name):
        names = f"Releases: {', '.join((*PACKAGED, *RELEASES))}. Measured metrics that can judge: {', '.join(metrics)}"
        near = nearest_path(name)
        meant = f"Did you mean {near}?" if near else "Give a model folder, a checkpoint file, or a name."
        raise UsageError(f"unknown model {shown(name, 200)}. {meant} {names}.")
    if release_of(name) is None:
        check_not_a_path(name)
    return model
