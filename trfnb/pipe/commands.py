"""``trfnb import-pipeline``, ``trfnb export`` and ``trfnb quantize``."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add ``import-pipeline``, ``export`` and ``quantize`` to the command ``trfnb``."""
    app.command("import-pipeline")(rewrite)
    app.command("export")(write)
    app.command("quantize")(round_off)


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


def round_off(
    pipeline: Annotated[str, typer.Argument(help="A folder, or a package's name.")],
    texts: Annotated[
        Path, typer.Argument(help="A file with one text per line.", exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Argument(help="A folder to make.")],
    component: Annotated[
        str | None, typer.Option(help="Whose encoder, where several have one.")
    ] = None,
    least: Annotated[
        float, typer.Option(help="The least cosine to fp32, at the 1st percentile.")
    ] = 0.99,
) -> None:
    """Write a pipeline whose encoder runs in int8 on a CPU, if its vectors stay close enough.

    Example: trfnb quantize my_pipeline some_texts.txt my_fast_pipeline
    """
    from .exporting import quantize

    try:
        lines = texts.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"quantize expected {texts} to be text in UTF-8, got {error}. Save it as UTF-8."
        ) from None
    cosine, n = quantize(pipeline, out, filter(None, lines), component, least)
    typer.echo(f"{out}: cosine {cosine:.4f} to fp32 at the 1st percentile of {n:,} wordpieces")
