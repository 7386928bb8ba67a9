"""``trfnb vectors convert | inspect | distill``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

group = typer.Typer(
    name="vectors",
    help="""Convert, inspect and distil word vectors.

    Example: trfnb vectors convert cc.en.300.vec.gz vectors --limit 100000
    """,
    no_args_is_help=True,
)
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the table at PATH.")]
Dtype = Annotated[str, typer.Option(help="float32, or float16 for half the bytes.")]
Lang = Annotated[str, typer.Option(help="The language of the pipeline that carries the table.")]
WordsFile = Annotated[Path | None, typer.Option(help="A file with one word per line.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group ``vectors`` to the command ``trfnb``."""
    app.add_typer(group)


@group.command()
def convert(
    source: Annotated[str, typer.Argument(help="File, URL, pipeline or package.")],
    path: Annotated[str, typer.Argument(help="The directory to make.")],
    form: Annotated[str, typer.Option("--format", help="Where the file misleads.")] = "auto",
    keys: Annotated[str | None, typer.Option(help="Keys of an .npy or safetensors table.")] = None,
    limit: Annotated[int | None, typer.Option(help="Keep the first rows, this many.")] = None,
    words: WordsFile = None,
    corpus: Annotated[str | None, typer.Option(help="Keep this corpus's words.")] = None,
    lower: Annotated[bool, typer.Option("--lower", help="Lower-case the keys.")] = False,
    normalise: Annotated[bool, typer.Option("--normalise", help="Make rows' length one.")] = False,
    dtype: Dtype = "float32",
    attr: Annotated[
        str | None, typer.Option(help="Token attribute of the keys; the source's, else ORTH.")
    ] = None,
    lang: Lang = "en",
    name: Annotated[str, typer.Option(help="The table's name.")] = "trfnb.vectors",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a spaCy table of vectors in any format.

    Example: trfnb vectors convert glove.6B.zip table --words words.txt --lower
    """
    _run("convert", locals())


@group.command()
def inspect(
    table: Annotated[str, typer.Argument(help="A converted table, a pipeline or its package.")],
    corpus: Annotated[str | None, typer.Option(help="Count coverage of this corpus.")] = None,
    words: Annotated[list[str] | None, typer.Option(help="Show a word's neighbours.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show size, norms, coverage and neighbours.

    Example: trfnb vectors inspect table --corpus newsroom --words bank --words court
    """
    from trfnb import vectors

    found = vectors.inspect(table, corpus=corpus, words=words or ())
    lines = (f"{name}: {value}" for name, value in found.items())
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines))


@group.command()
def distill(
    model: Annotated[str, typer.Argument(help="A path or hub name; minilm is the packaged one.")],
    path: Annotated[str, typer.Argument(help="The directory to make.")],
    corpus: Annotated[str | None, typer.Option(help="Embed this corpus's words too.")] = None,
    words: WordsFile = None,
    wordpieces: Annotated[bool, typer.Option(help="Embed the tokenizer's own words.")] = True,
    width: Annotated[int, typer.Option(help="Dimensions to keep.")] = 256,
    weight: Annotated[bool, typer.Option(help="Weigh words by frequency.")] = True,
    dtype: Dtype = "float32",
    lang: Lang = "en",
    overwrite: Overwrite = False,
) -> None:
    """Make a table of what a transformer knows of words.

    Example: trfnb vectors distill minilm table --corpus newsroom --width 192
    """
    _run("distill", locals())


def _run(function: str, options: dict[str, Any]) -> None:
    from trfnb import vectors

    typer.echo(getattr(vectors, function)(**options))
