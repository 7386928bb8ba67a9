"""The command ``trfnb compare``."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add ``trfnb compare`` to a command line."""
    app.command(
        "compare", epilog='Example: trfnb compare my.cfg --corpus corpus/ --budget "5 min"'
    )(compare_command)


def compare_command(
    config: Annotated[Path, typer.Argument(help="A spaCy config with a shared encoder.")],
    corpus: Annotated[
        str,
        typer.Option(help="A folder with train.spacy, dev.spacy and test.spacy, or a corpus."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Runs per way of sharing.")] = 3,
    budget: Annotated[
        str, typer.Option(help='Of a run: "5 min", "90 s", "60000 words".')
    ] = "5 min",
    tune: Annotated[
        int, typer.Option(min=0, help="Learn rates to try on dev for each way first; 0: none.")
    ] = 0,
    margin: Annotated[float, typer.Option(help="The largest difference that does not matter.")] = (
        0.01
    ),
    out: Annotated[Path, typer.Option(help="A new folder for the winner.")] = Path("winner"),
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    code: Annotated[
        Path | None, typer.Option(help="A Python file that registers your own components.")
    ] = None,
) -> None:
    """Share one encoder, train one per task, or freeze it? Train all, compare, keep the winner.

    CONFIG is an ordinary spaCy config with one transformer or tok2vec and components that listen
    to it. Its shared, independent and frozen versions are trained with the same budget; the
    verdicts are printed, and the winner is saved as a pipeline with its card, README.md.
    """
    # Only here: the other commands must not wait for spaCy and torch.
    from spacy.cli._util import import_code

    from trfnb import corpora
    from trfnb.device import use_device
    from trfnb.experiments.comparison import DocBinCorpus, compare
    from trfnb.files import refuse_existing

    refuse_existing(out, "compare")
    use_device(device)
    import_code(code)
    folder = Path(corpus)
    files = [(folder / f"{split}.spacy").exists() for split in ("train", "dev")]
    data = DocBinCorpus(folder) if all(files) else corpora.load(corpus)
    comparison = compare(data, config=config, seeds=seeds, budget=budget, tune=tune, margin=margin)
    told = [comparison.setup, comparison.table().to_string(), *comparison.sentences()]
    typer.echo("\n".join([*told, comparison.choice()]))
    saved = comparison.save(out)
    typer.echo(f'The winner ({comparison.winner}) is in {saved}: spacy.load("{saved}").')
