"""The group of commands. Heavy packages are imported inside the commands, so that `urgentmos --help` is fast.

Exit status: 0 all well; 1 some clips failed (their rows hold the reason); 2 the command could not be understood, its input does
not exist, or its model cannot be loaded; 3 `compare --fail-if-worse`: B is worse.
"""

import click

from urgentmos import __version__
from urgentmos.commands import compare, evaluate, label, models, pairs, prepare, rank, score, serve, train
from urgentmos.commands.ending import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="urgentmos")
def main() -> None:
    """Rank speech systems by how they sound, with confidence intervals, without a listening test."""


for command in (
    score.score,
    compare.compare,
    rank.rank,
    label.label,
    prepare.prepare,
    pairs.pairs,
    train.train,
    evaluate.evaluate,
    models.import_,
    models.export,
    models.models,
    serve.serve,
):
    main.add_command(command)
