"""The command that turns a corpus on disk into manifests."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from urgentmos.commands.ending import Command
from urgentmos.common.console import progress, say, table
from urgentmos.corpora import NAMES, Corpus
from urgentmos.errors import UsageError


@click.command(cls=Command)
@click.argument("corpus", type=click.Choice(NAMES), metavar="CORPUS")
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the manifests.  [default: CORPUS]"
)
@click.option("--split", "splits", metavar="NAME", multiple=True, help="Only this split. Repeat for several.")
@click.option(
    "--dev-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Of the contents of train, for a corpus without a dev set.",
)
@click.option("--download", is_flag=True, help="Fetch what can be fetched into ROOT first; the licence is shown.")
@click.option(
    "--against",
    metavar="MANIFEST",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Say which recordings are also in this manifest of another corpus. Repeat for several.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Recordings decoded at once.  [default: one per core]")
def prepare(
    corpus: str,
    root: Path,
    settings: tuple[str, ...],
    output: Path | None,
    splits: tuple[str, ...],
    dev_share: float,
    download: bool,
    against: tuple[Path, ...],
    jobs: int | None,
) -> None:
    """Turn a corpus on disk into manifests.

    CORPUS is a name that docs/prepare.md lists, or custom: a CSV whose columns KEY=VALUE names. ROOT is the folder where it
    was unpacked. Each split becomes DIR/SPLIT.jsonl, and SPLIT_pairs.jsonl if the corpus compares clips; what cannot be used
    is in DIR/left_out.jsonl with the reason. Counts that differ from the published ones are reported.
    """
    from urgentmos.corpora import get
    from urgentmos.corpora.prepare import prepare as run

    chosen = get(corpus)
    options = _options(settings)
    with progress() as show:
        if download:
            _download(chosen, root, show)
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder. {_how_to_get(chosen)}")
        done = run(
            chosen,
            root,
            output or Path(corpus),
            splits=splits,
            options=options,
            dev_share=dev_share,
            against=against,
            jobs=jobs or _cores(),
            show=show,
        )
    for warning in done.warnings:
        say(f"Warning: {warning}")
    _show([split.row() for split in done.splits])
    _leave([row for split in done.splits for row in split.left_out], done.files)


def _options(settings: tuple[str, ...]) -> dict[str, str]:
    options = {}
    for item in settings:
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"{item!r} is not understood. Options of a corpus are written KEY=VALUE.")
        if key in options:
            raise UsageError(f"{key}= is given twice. Keep one of them.")
        options[key] = value
    return options


def _how_to_get(corpus: Corpus) -> str:
    about = corpus.about
    where = f"{about.title} (licence: {about.licence}) comes from {about.page}"
    cure = "add --download to fetch it" if about.sources else "name an existing folder"
    return f"{where}; {cure}.{' ' + about.by_hand if about.by_hand else ''}"


def _download(corpus: Corpus, root: Path, show: object) -> None:
    from urgentmos.corpora.download import fetch

    about = corpus.about
    if not about.sources:
        raise UsageError(f"{corpus.name}: there is nothing to download. Leave --download out.")
    say(f"{about.title}. Licence: {about.licence}. Cite: {about.cite}. Page: {about.page}")
    if about.by_hand:
        say(about.by_hand)
    for source in about.sources:
        digest = fetch(source, root, show)  # type: ignore[arg-type]
        if digest is not None:
            checked = "as published" if source.sha256 else "none is published to compare it with"
            say(f"{source.file}: SHA-256 {digest} ({checked})")


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _show(rows: list[dict[str, object]]) -> None:
    from urgentmos.clips.tables import write_jsonl_lines

    if not sys.stdout.isatty():
        write_jsonl_lines(rows, sys.stdout)
        return
    head = list(rows[0])
    shown = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    table([name.replace("_", " ") for name in head], shown, numbers=range(1, len(head)))


def _leave(left_out: list[dict[str, object]], files: list[Path]) -> None:
    """Show the paths of the manifests; exit status 1 if rows were left out."""
    say("Wrote " + ", ".join(str(file) for file in files))
    if not left_out:
        return
    say(f"{len(left_out)} rows cannot be used, as left_out.jsonl says:")
    for row in left_out[:10]:
        say(f"  {row['uid']}: {row['error']}")
    if len(left_out) > 10:
        say(f"  and {len(left_out) - 10} more")
    sys.exit(1)
