"""The commands about models themselves: import, export, models."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from urgentmos.cli_shared import Command, check_output, output_option
from urgentmos.console import say, table


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

    need("torch", "models")
    from urgentmos.checkpoints import convert

    made = convert(checkpoint, output, allow_download=download)
    say(f"{output}: {made.info['name']} ({made.architecture}), version {made.info['version']}")


@click.command(cls=Command)
@click.argument("model")
@click.option("-o", "--output", metavar="FILE.onnx", required=True, type=click.Path(path_type=Path), help="The file to write.")
def export(model: str, output: Path) -> None:
    """Write a model for onnxruntime.

    MODEL is an UrgentMOS model with the small trainable encoder. The file takes waves (B, T) at the model's rate and their
    lengths (B,), and gives the metrics (B, M); it is checked against the original before the command ends.
    """
    from urgentmos.errors import need

    need("torch", "models")
    from urgentmos.checkpoints import load_any
    from urgentmos.exporting import to_onnx

    error = to_onnx(load_any(model), output)
    say(f"{output}: largest difference from the original {error:.1e}")


@click.command(cls=Command)
@output_option
def models(output: Path | None) -> None:
    """List what can follow -m: released models, and metrics that are measured here."""
    from urgentmos.model_list import known_models
    from urgentmos.tables import write_jsonl_lines, write_records

    check_output(output)
    rows = known_models()
    if output is not None:
        write_records(rows, output)
    elif sys.stdout.isatty():
        shown = [
            [str(row[k] or "-") for k in ("model", "kind", "ready", "size", "licence", "metrics", "trained_on")] for row in rows
        ]
        table(["model", "kind", "ready", "size", "licence", "metrics", "trained on"], shown)
    else:
        write_jsonl_lines(rows, sys.stdout)
