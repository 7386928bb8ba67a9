"""``trfnb pretrain CONFIG OUT``."""

import argparse
import json
from typing import Any


def add_pretraining_commands(subparsers: Any) -> None:
    """Add ``pretrain`` to a parser's subparsers."""
    parser = subparsers.add_parser("pretrain", help="pretrain a body on raw text")
    parser.add_argument("config", help="a config that spacy pretrain takes")
    parser.add_argument("out", help="the folder to make")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--code", help="a Python file whose registered functions the config uses")
    parser.add_argument("--gpu-id", type=int, default=-1, help="the GPU, -1 for the CPU")
    parser.add_argument("--quiet", action="store_true", help="show no bar")
    parser.add_argument(
        "-p",
        dest="overrides",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="replace a setting, e.g. -p paths.raw_text TEXT -p pretraining.max_epochs 3",
    )
    parser.set_defaults(do=_pretrain)


def _pretrain(arguments: argparse.Namespace) -> int:
    from spacy.cli._util import import_code, setup_gpu
    from spacy.util import load_config

    from trfnb import registration  # noqa: F401  what the config may name
    from trfnb.pretraining.loop import pretrain
    from trfnb.pretraining.setup import filled

    import_code(arguments.code)
    setup_gpu(arguments.gpu_id, silent=True)
    config = filled(load_config(arguments.config, interpolate=False))
    for name, text in arguments.overrides:
        _override(config, name, text)
    path = pretrain(config, arguments.out, resume=arguments.resume, progress=not arguments.quiet)
    print(path)  # noqa: T201
    return 0


def _override(config: Any, name: str, text: str) -> None:
    """Set a dotted name, making the sections that are not there."""
    *sections, key = name.split(".")
    block = config
    for section in sections:
        block = block.setdefault(section, {})
    try:
        block[key] = json.loads(text)
    except json.JSONDecodeError:
        block[key] = text
