"""``trfnb import-pipeline``."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add ``import-pipeline`` to the command ``trfnb``."""
    app.command("import-pipeline")(rewrite)


def rewrite(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A folder, or a package's name.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A folder to make.")],
) -> None:
    """Rewrite a pipeline of spacy-transformers or spacy-curated-transformers in trfnb's names.

    Example: trfnb import-pipeline en_core_news_trf my_pipeline
    """
    from .importing import import_pipeline

    nlp = import_pipeline(source, target)
    typer.echo(f"{target}: {', '.join(nlp.pipe_names)}")
