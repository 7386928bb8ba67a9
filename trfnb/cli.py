"""The command ``trfnb``. Each room of the library brings its own commands."""

import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import trfnb


# Turns what the user can put right into a line and exit code 2.
class _Commands(TyperGroup):
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None:  # it may belong to a room that the core alone cannot open
            for room in _rooms():
                import_module(room)
        return command

    def invoke(self, ctx: Any) -> Any:
        # Being terminated becomes an exception, so that what is half written is taken away.
        main = threading.current_thread() is threading.main_thread()  # others hear no signals
        before = main and signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            with trfnb.notebook_side():
                code = super().invoke(ctx)
        except (ValueError, OSError, ImportError) as error:
            print(f"trfnb: {error}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
            code = 2
        finally:
            if main:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        raise typer.Exit(code or 0)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"trfnb {trfnb.__version__}")
        raise typer.Exit


def init_config(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The config to write.")],
    pipeline: Annotated[str, typer.Option(help="Components, with commas.")] = "tagger,parser,ner",
    encoder: Annotated[
        str, typer.Option(help="minilm, a path, a hub name, or tok2vec.")
    ] = "minilm",
    sharing: Annotated[str, typer.Option(help="shared, independent or frozen.")] = "shared",
    lang: Annotated[str, typer.Option(help="Language code.")] = "en",
) -> None:
    """Write a config for spacy train, with a transformer that the components share.

    Example: trfnb init config config.cfg --pipeline tagger,ner --encoder my_encoder/
    """
    from trfnb.experiments.configs import build_config

    if out.exists():
        raise ValueError(f"init config expected a new file, got {out}. Remove it or name another.")
    build_config(pipeline.split(","), encoder, sharing, lang=lang).to_disk(out)


def _rooms() -> list[str]:
    files = sorted(Path(__file__).parent.glob("*/commands.py"))
    return [f"trfnb.{file.parent.name}.commands" for file in files]


def build_app() -> typer.Typer:
    """Return the application with the commands of every ``trfnb/ROOM/commands.py``."""
    app = typer.Typer(
        cls=_Commands,
        help="Transfer-learning notebooks for spaCy: run, sweep, compare.",
        epilog="Example: trfnb sweep notebooks/sweeps/demo.yml --jobs 2",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")
        ] = False,
    ) -> None:
        pass

    init = typer.Typer(help="Write a config to start from.", no_args_is_help=True)
    init.command("config")(init_config)
    app.add_typer(init, name="init")
    for room in _rooms():
        with suppress(ImportError), trfnb.notebook_side():
            import_module(room).add_commands(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 2 for what the user can put right."""
    try:
        build_app()(args=arguments and list(arguments), prog_name="trfnb")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
