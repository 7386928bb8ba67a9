"""``trfnb corpus``: look at a corpus of any format, and write it for ``spacy train``."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer


def _index(given: str) -> Any:
    return int(given) if given.lstrip("-").isdecimal() else given


group = typer.Typer(name="corpus", help="Corpora of any format.", no_args_is_help=True)
Source = Annotated[str, typer.Argument(help="A name, a path or a URL.")]
Layer = Annotated[list[str] | None, typer.Option(help="Further annotation, joined by sent_id.")]
Key = Annotated[Any, typer.Option(parser=_index, help="Index or name of labels, or of texts.")]
Lang = Annotated[str, typer.Option(help="Whose tokenizer splits raw texts.")]
OnError = Annotated[Any, typer.Option(help="raise, or skip and count bad sentences.")]


def add_commands(app: typer.Typer) -> None:
    """Add ``corpus convert`` and ``corpus inspect`` to the command line."""
    app.add_typer(group)


@group.command()
def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(help="Folder for train, dev and test.spacy.")],
    layer: Layer = None,
    column: Key = None,
    text_column: Key = None,
    lang: Lang = "en",
    on_error: OnError = "raise",
) -> None:
    """Write a corpus as .spacy files.

    Example: trfnb corpus convert reviews.csv corpus/ --column stars
    """
    inspect(source, layer, column, text_column, lang, on_error).save(out)


@group.command()
def inspect(
    source: Source,
    layer: Layer = None,
    column: Key = None,
    text_column: Key = None,
    lang: Lang = "en",
    on_error: OnError = "raise",
) -> Any:
    """Show splits, labels, lengths, leaks between splits, and what was left out.

    Example: trfnb corpus inspect conll2003/ --column 3
    """
    import pandas as pd

    from trfnb.corpora.loading import load

    corpus = load(
        source,
        layers=layer or (),
        column=column,
        text_column=text_column,
        lang=lang,
        on_error=on_error,
    )
    splits = corpus.splits
    words = {split: pd.Series([len(s.words) for s in some]) for split, some in splits.items()}
    labels = {
        split: Counter(label for s in some for label in s.labels())
        for split, some in splits.items()
    }
    typer.echo(f"{corpus.name}: {', '.join(corpus.tasks)}\n{corpus.describe().to_string()}\n")
    typer.echo(f"Words per sentence\n{pd.DataFrame(words).describe().round(1).T.to_string()}\n")
    counts = pd.DataFrame(labels).fillna(0).astype(int)
    typer.echo(f"Labels\n{counts.sort_index().to_string()}\n")
    for split, other in combinations(splits, 2):
        shared = {s.text for s in splits[split]} & {s.text for s in splits[other]}
        typer.echo(f"Texts that {split}, {other} share: {len(shared)}")
    for reason, count in corpus.skipped.items():
        typer.echo(f"Left out: {count} × {reason}")
    for note in corpus.notes:
        typer.echo(f"Assumed: {note}")
    return corpus
