"""The commands of pretraining alone, as a program."""

import typer

from trfnb.pretraining.commands import add_commands

app = typer.Typer()
app.callback()(lambda: None)
add_commands(app)

if __name__ == "__main__":
    app()
