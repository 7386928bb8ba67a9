"""``trfnb pretrain CONFIG OUT``."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add ``pretrain`` to the command line."""
    # Settings of the config are no options of typer: spaCy parses what is left over.
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
        pretrain
    )


def pretrain(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="A config that `spacy pretrain` takes.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")
    ] = False,
    code: Annotated[
        Path | None,
        typer.Option("--code", "-c", help="A Python file of registered functions."),
    ] = None,
    gpu_id: Annotated[int, typer.Option("--gpu-id", "-g", help="The GPU, -1 for the CPU.")] = -1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no bar.")] = False,
) -> None:
    """Pretrain a tok2vec layer or a transformer on raw text.

    Settings of the config are given as spaCy's commands take them: --section.setting VALUE.

    Example: trfnb pretrain config.cfg out --paths.raw_text novels/ --pretraining.max_epochs 3
    """
    from spacy.cli._util import import_code, parse_config_overrides, setup_gpu
    from spacy.util import load_config
    from thinc.api import Config, use_pytorch_for_gpu_memory

    from trfnb import registration  # noqa: F401  what the config may name
    from trfnb.pretraining.config import SECTION, filled
    from trfnb.pretraining.loop import pretrain as run
    from trfnb.pretraining.text import PretrainingError

    overrides = parse_config_overrides(list(context.args), env_var=None)
    given = filled(load_config(config, interpolate=False))
    given.setdefault(SECTION, {})
    known = {f"paths.{name}" for name in given["paths"]}
    if unknown := {name for name in overrides if name.startswith("paths.")} - known:
        raise PretrainingError(
            f"--{', --'.join(sorted(unknown))} expected one of the config's paths "
            f"({', '.join(sorted(known))}), got another. Correct the name."
        )
    import_code(code)
    setup_gpu(gpu_id, silent=True)
    use_pytorch_for_gpu_memory()  # nothing on a CPU
    given = Config().from_str(given.to_str(), interpolate=False, overrides=overrides)
    typer.echo(run(given, out, resume=resume, progress=not quiet))
