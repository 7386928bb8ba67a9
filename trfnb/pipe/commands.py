"""``trfnb import-pipeline``."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_pipe_commands(commands: Any) -> None:
    """Add the command that rewrites saved pipelines."""
    command = commands.add_parser(
        "import-pipeline", help="rewrite a pipeline saved by spacy-transformers in trfnb's names"
    )
    command.add_argument("source", help="a saved pipeline's directory, or an installed one's name")
    command.add_argument("target", type=Path, help="a directory that does not exist yet")
    command.set_defaults(do=do_import)


def do_import(arguments: argparse.Namespace) -> int:
    """Rewrite a pipeline."""
    from .importing import import_pipeline

    nlp = import_pipeline(arguments.source, arguments.target)
    sys.stdout.write(f"{arguments.target}: {', '.join(nlp.pipe_names)}\n")
    return 0
