"""The command ``trfnb``. Each part of the library brings its own subcommands."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import trfnb


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with the subcommands of every ``trfnb/PART/commands.py``."""
    parser = argparse.ArgumentParser(
        prog="trfnb", description="Transfer-learning notebooks for spaCy: run, sweep, compare."
    )
    parser.add_argument("--version", action="version", version=f"trfnb {trfnb.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for part in sorted(path.parent.name for path in Path(__file__).parent.glob("*/commands.py")):
        module = import_module(f"trfnb.{part}.commands")
        getattr(module, f"add_{part}_commands")(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 2 for what the user can put right."""
    given = build_parser().parse_args(arguments)
    try:
        return int(given.do(given))
    except (ValueError, OSError) as error:
        print(f"trfnb: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
