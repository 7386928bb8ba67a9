"""``trfnb corpus``: look at a corpus of any format, and write it for ``spacy train``."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from trfnb.corpora.corpus import SPLITS, Corpus, CorpusError
from trfnb.corpora.loading import load

Source = Annotated[str, typer.Argument(help="A name, a path or a URL.")]
Layer = Annotated[list[str] | None, typer.Option(help="Further annotation, joined by sent_id.")]
LabelColumn = Annotated[str | None, typer.Option("--column", help="Label column: index or name.")]
TextColumn = Annotated[str | None, typer.Option(help="Text column of a table: index or name.")]
Shares = Annotated[str | None, typer.Option("--split", help="Shares, as in 0.8,0.1,0.1.")]
Lang = Annotated[str, typer.Option(help="Whose tokenizer splits raw texts.")]
OnError = Annotated[str, typer.Option(help="raise, or skip and count bad sentences.")]


def add_commands(app: typer.Typer) -> None:
    """Add ``corpus convert`` and ``corpus inspect`` to the command line."""
    corpus = typer.Typer(help="Corpora of any format.", no_args_is_help=True)
    corpus.command()(convert)
    corpus.command()(inspect)
    app.add_typer(corpus, name="corpus")


def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(help="Folder for train, dev and test.spacy.")],
    layer: Layer = None,
    column: LabelColumn = None,
    text_column: TextColumn = None,
    split: Shares = None,
    lang: Lang = "en",
    on_error: OnError = "raise",
) -> None:
    """Write a corpus as .spacy files.

    Example: trfnb corpus convert reviews.csv corpus/ --column stars
    """
    corpus = _load(source, layer, column, text_column, split, lang, on_error)
    corpus.save(out)
    typer.echo(corpus.describe().to_string())
    _tell(corpus)
    typer.echo(f"Written: {', '.join(str(path) for path in sorted(out.glob('*.spacy')))}")


def inspect(
    source: Source,
    layer: Layer = None,
    column: LabelColumn = None,
    text_column: TextColumn = None,
    split: Shares = None,
    lang: Lang = "en",
    on_error: OnError = "raise",
) -> None:
    """Show splits, labels, lengths, leaks between splits, and what was left out.

    Example: trfnb corpus inspect conll2003/ --column 3
    """
    import pandas as pd

    corpus = _load(source, layer, column, text_column, split, lang, on_error)
    splits = {name: corpus.sentences(name) for name in SPLITS if corpus.sentences(name)}
    words = {name: pd.Series([len(s.words) for s in found]) for name, found in splits.items()}
    labels = {name: _labels(found) for name, found in splits.items()}
    counts = pd.DataFrame(labels).fillna(0).astype(int).sort_index()
    typer.echo(f"{corpus.name}: {', '.join(corpus.tasks)}\n{corpus.describe().to_string()}\n")
    typer.echo(f"Words per sentence\n{pd.DataFrame(words).describe().round(1).T.to_string()}\n")
    typer.echo(f"Labels\n{counts.to_string()}\n")
    for pair, shared in corpus.leaks().items():
        typer.echo(f"Texts that {pair} share: {shared}")
    _tell(corpus)


def _labels(sentences: Any) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for s in sentences:
        counts.update(("entity", label) for _, _, label in s.ents or ())
        counts.update(
            ("span", label) for group in (s.spans or {}).values() for _, _, label in group
        )
        counts.update(("category", name) for name, value in (s.cats or {}).items() if value >= 0.5)
        counts.update(("tag", tag) for tag in s.tags or ())
        counts.update(("dependency", dep) for dep in s.deps or ())
    return counts


def _tell(corpus: Corpus) -> None:
    for reason, count in corpus.skipped.items():
        typer.echo(f"Left out: {count} × {reason}")
    for note in corpus.notes:
        typer.echo(f"Assumed: {note}")


def _load(
    source: str,
    layer: list[str] | None,
    column: str | None,
    text_column: str | None,
    split: str | None,
    lang: str,
    on_error: str,
) -> Corpus:
    columns = [int(c) if c.lstrip("-").isdecimal() else c for c in (column or "").split(",") if c]
    text = int(text_column) if text_column and text_column.isdecimal() else text_column
    given: dict[str, Any] = {"lang": lang, "on_error": on_error, "text_column": text}
    if columns:
        given["column"] = columns[0] if len(columns) == 1 else columns
    try:
        if split:
            given["split"] = tuple(float(share) for share in split.split(","))
        return load(source, layers=layer or (), **given)
    except (CorpusError, ValueError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
