"""``trfnb pretrain CONFIG OUT``."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from trfnb.pretraining.errors import PretrainingError

_LOOP = "pretraining_loop"


def add_pretraining_commands(subparsers: Any) -> None:
    """Add ``pretrain`` to a parser's subparsers."""
    parser = subparsers.add_parser(
        "pretrain",
        help="pretrain a body on raw text",
        epilog="Settings may also be given as spaCy's commands take them: --paths.raw_text TEXT.",
    )
    parser.__class__ = _WithSettings
    parser.add_argument("config", help="a config that spacy pretrain takes")
    parser.add_argument("out", help="the folder to make")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "-c", "--code", help="a Python file whose registered functions the config uses"
    )
    parser.add_argument("-g", "--gpu-id", type=int, default=-1, help="the GPU, -1 for the CPU")
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


class _WithSettings(argparse.ArgumentParser):
    """A parser that takes ``--section.name VALUE`` too, as spaCy's commands do."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Take such settings out before the others are parsed."""
        own, settings = split_settings(args)
        known, rest = super().parse_known_args(own, namespace)
        known.overrides = [*known.overrides, *settings]
        return known, rest


def split_settings(arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Part a command line in what is no dotted setting, and names and values of settings.

    As for spaCy, ``--a.b=1`` means ``--a.b 1``, and a setting without a value is true.
    """
    own: list[str] = []
    settings: list[list[str]] = []
    waiting = list(arguments)
    while waiting:
        one = waiting.pop(0)
        name, equals, value = one.partition("=")
        if not name.startswith("--") or "." not in name:
            own.append(one)
        elif equals:
            settings.append([name[2:], value])
        else:
            bare = not waiting or waiting[0].startswith("--")
            settings.append([name[2:], "true" if bare else waiting.pop(0)])
    return own, settings


def _pretrain(arguments: argparse.Namespace) -> int:
    from spacy.cli._util import setup_gpu
    from spacy.util import load_config

    from trfnb import registration  # noqa: F401  what the config may name
    from trfnb.pretraining.loop import pretrain
    from trfnb.pretraining.setup import filled

    setup_gpu(arguments.gpu_id, silent=True)
    config = filled(load_config(arguments.config, interpolate=False))
    for name, text in arguments.overrides:
        _override(config, name, text)
    path = pretrain(
        config,
        arguments.out,
        resume=arguments.resume,
        progress=not arguments.quiet,
        code=arguments.code,
    )
    print(path)  # noqa: T201
    return 0


def _override(config: Any, name: str, text: str) -> None:
    """Set a dotted name, making sections below those that there are.

    Raises:
        PretrainingError: nothing would read the setting.
    """
    *sections, key = name.split(".")
    known = sorted({*config, _LOOP})
    if not sections or sections[0] not in known:
        raise PretrainingError(
            f"{name} expected a setting in one of the config's sections ({', '.join(known)}), got "
            "another. Correct the name."
        )
    if sections == ["paths"] and key not in config["paths"]:
        raise PretrainingError(
            f"{name} expected one of the config's paths ({', '.join(config['paths'])}), got "
            "another. Correct the name."
        )
    block: Any = config
    for section in sections:
        block = block.setdefault(section, {})
        if not isinstance(block, dict):
            raise PretrainingError(
                f"{name} expected [{'.'.join(sections)}] to be a section, got {section} = "
                f"{block!r}. Correct the name."
            )
    try:
        block[key] = json.loads(text)
    except json.JSONDecodeError:
        block[key] = text
