"""The commands about models themselves: import, export, models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from urgentmos.commands.ending import Command
from urgentmos.commands.options import output_option
from urgentmos.commands.output import check_output
from urgentmos.common.console import say, show, table
from urgentmos.errors import UsageError

FACTS = ("ready", "repo", "file", "licence", "size", "metrics", "trained_on")


@click.command("import", cls=Command)
@click.argument("checkpoint")
@click.option("-o", "--output", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder of the new model.")
@click.option("--download", is_flag=True, help="Fetch a release, or the configuration of an encoder, from its hub.")
def import_(checkpoint: str, output: Path, download: bool) -> None:
    """Turn a released checkpoint into a model folder.

    CHECKPOINT is a file of UrgentMOS, Uni-VERSA-Ext, URGENT-PK or UTMOS22, or the name of a release. Nothing in the file is
    executed. The folder holds config.json, model.safetensors and MODEL_CARD.md, and can follow -m.
    """
    from urgentmos.errors import need
    from urgentmos.models.releases import RELEASES

    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file, and a model is a folder. Choose another name for -o.")
    if checkpoint in RELEASES and not Path(checkpoint).exists() and not download:
        row = RELEASES[checkpoint]
        cure = "Add --download, or get" if row.on_hub else "Get"
        raise UsageError(f"{checkpoint} is a release. {cure} {row.file} from {row.repo} and give the file.")
    need("torch", "models")
    from urgentmos.models.folder import convert

    loaded = convert(checkpoint, output, allow_download=download)
    say(f"{output}: {loaded.info['name']} ({loaded.architecture}), version {loaded.info['version']}")


@click.command(cls=Command)
@click.argument("model")
@click.option("-o", "--output", metavar="FILE.onnx", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--input",
    "start",
    type=click.Choice(("waves", "log-mel")),
    default="waves",
    show_default=True,
    help="What the file takes: any number of waves, or the log-mel of one clip, which urgentmos computes faster itself.",
)
def export(model: str, output: Path, start: str) -> None:
    """Write a model for onnxruntime.

    MODEL is the folder of an UrgentMOS model with the small trainable encoder. The file gives the metrics of each clip, a
    timeline of them, and what it takes to compare clips. It is checked against the original before the command ends, and can
    follow -m. Called model.onnx in the model's folder, it makes the folder work without torch.
    """
    from urgentmos.errors import need

    need("torch", "models")
    from urgentmos.common.packaged import PACKAGED
    from urgentmos.judges.export import to_onnx
    from urgentmos.models.folder import load_any

    error = to_onnx(load_any(PACKAGED.get(model, model)), output, start)  # type: ignore[arg-type]
    say(f"{output}: differs from the original by {error:.1e} at most")


@click.command(cls=Command)
@output_option
def models(output: Path | None) -> None:
    """List what can follow -m.

    Released models come first, then the metrics that are measured here. "ready" is what is still missing: a download, a
    package, or --weights. Model folders and released checkpoint files can follow -m as well, and mos_overall, which is the
    human labels of a manifest.
    """
    from urgentmos.clips.tables import write_jsonl_lines, write_records
    from urgentmos.judges.listing import known_models

    check_output(output, rows="a list of models")
    rows = known_models()
    if output is not None:
        write_records(rows, output)
    elif sys.stdout.isatty():
        _show(rows)
    else:
        write_jsonl_lines(rows, sys.stdout)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """A paragraph per release, and a line per measured metric: one wide table fits no terminal."""
    measured = [row for row in rows if str(row["kind"]).startswith("measured")]
    for row in (row for row in rows if row not in measured):
        show(row["model"])
        for key in FACTS:
            if row[key] is not None:
                first, *more = wrap(str(row[key]), 84, break_long_words=False, break_on_hyphens=False) or [""]
                show(f"  {key.replace('_', ' '):<10}  {first}")
                for line in more:
                    show(f"{'':14}{line}")
        show()
    shown = [[row["model"], row["ready"], "reference signals" if "reference" in row["kind"] else "-"] for row in measured]
    table(["measured here", "ready", "needs"], shown)
