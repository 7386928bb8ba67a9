"""``trfnb vectors convert | inspect | distill``."""

import argparse
import json
import signal
import sys
from typing import Any

from trfnb.vectors.options import DTYPES


def add_vectors_commands(subparsers: Any) -> None:
    """Add ``vectors`` and its commands to a parser's subparsers."""
    vectors = subparsers.add_parser("vectors", help="convert, inspect and distil word vectors")
    commands = vectors.add_subparsers(required=True, metavar="COMMAND")
    _add_convert(commands)
    _add_inspect(commands)
    _add_distill(commands)


def _add_convert(commands: Any) -> None:
    parser = commands.add_parser("convert", help="make a spaCy table of vectors in any format")
    parser.add_argument("source", help="file, pipeline, package, or - for standard input")
    parser.add_argument("path", help="the directory to make")
    parser.add_argument("--format", dest="form", default="auto", help="where the file misleads")
    parser.add_argument("--keys", help="keys of an .npy or safetensors table")
    parser.add_argument("--limit", type=int, help="keep the first rows, this many")
    parser.add_argument("--words", help="keep the words of this file (one a line)")
    parser.add_argument("--corpus", help="keep the words of this corpus (a name or a path)")
    parser.add_argument("--lower", action="store_true", help="lower-case the keys")
    parser.add_argument("--normalise", action="store_true", help="make rows' length one")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--width", type=int, help="reduce to so many dimensions (PCA)")
    parser.add_argument("--attr", default="ORTH", help="token attribute of the keys")
    parser.add_argument("--lang", default="en")
    parser.add_argument("--name", default="trfnb.vectors")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    parser.add_argument("--overwrite", action="store_true")
    parser.set_defaults(do=_convert)


def _add_inspect(commands: Any) -> None:
    parser = commands.add_parser("inspect", help="size, norms, duplicates, coverage, neighbours")
    parser.add_argument("table", help="a converted table, a pipeline or its package")
    parser.add_argument("--corpus", help="count coverage of this corpus (a name or a path)")
    parser.add_argument("--words", nargs="*", default=[], help="show these words' neighbours")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(do=_inspect)


def _add_distill(commands: Any) -> None:
    parser = commands.add_parser(
        "distill", help="make a table of what a transformer knows of words"
    )
    parser.add_argument("model", help="a local path or hub name; minilm is the packaged one")
    parser.add_argument("path", help="the directory to make")
    parser.add_argument("--corpus", help="embed this corpus's words beside the wordpieces")
    parser.add_argument("--words", help="embed the words of this file (one a line)")
    parser.add_argument(
        "--no-wordpieces", dest="wordpieces", action="store_false", help="embed those words alone"
    )
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument(
        "--no-weight", dest="weight", action="store_false", help="no frequency weights"
    )
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--lang", default="en")
    parser.add_argument("--overwrite", action="store_true")
    parser.set_defaults(do=_distill)


def _convert(arguments: argparse.Namespace) -> int:
    from trfnb.vectors import convert

    _end_tidily()
    print(convert(arguments.source, arguments.path, **_options(arguments, "source", "path")))  # noqa: T201
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from trfnb.vectors import inspect

    found = inspect(arguments.table, corpus=arguments.corpus, words=arguments.words)
    print(json.dumps(found.to_dict(), indent=1) if arguments.json else found)  # noqa: T201
    return 0


def _distill(arguments: argparse.Namespace) -> int:
    from trfnb.vectors import distill

    _end_tidily()
    print(distill(arguments.model, arguments.path, **_options(arguments, "model", "path")))  # noqa: T201
    return 0


def _end_tidily() -> None:
    """Make an exception of being terminated, so that what is half written is taken away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _options(arguments: argparse.Namespace, *positional: str) -> dict[str, Any]:
    return {k: v for k, v in vars(arguments).items() if k not in {"do", *positional}}
