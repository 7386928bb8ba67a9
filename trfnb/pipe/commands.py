"""``trfnb import-pipeline`` and ``trfnb export``."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add ``import-pipeline`` and ``export`` to the command ``trfnb``."""
    app.command("import-pipeline")(rewrite)
    app.command("export")(write)


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


def write(
    pipeline: Annotated[str, typer.Argument(help="A folder, or a package's name.")],
    out: Annotated[Path, typer.Argument(help="A folder to make.")],
    to: Annotated[str, typer.Option(help="onnx, openvino or safetensors.")],
    component: Annotated[
        str | None, typer.Option(help="Whose encoder, where several have one.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="The largest difference to accept.")] = 1e-4,
) -> None:
    """Write a pipeline's encoder and tokenizer for other programs, and check what they compute.

    Example: trfnb export my_pipeline my_encoder --to onnx
    """
    from .exporting import export

    apart, n = export(pipeline, out, to, component, tolerance)
    typer.echo(f"{out}: within {apart:.1e} of the pipeline's hidden states, on {n} wordpieces")
