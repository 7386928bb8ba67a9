"""The commands, on an app of their own."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from trfnb.vectors.commands import add_commands

from .tables import write_text

WORDS = ["cat", "dog", "car"]


@pytest.fixture
def call():
    app = typer.Typer()
    app.callback()(lambda: None)
    add_commands(app)
    return lambda *arguments: CliRunner().invoke(app, ["vectors", *map(str, arguments)])


def test_convert_and_inspect(call, tmp_path):
    path = write_text(tmp_path / "v.vec", WORDS, np.eye(3, dtype="f4"))
    (tmp_path / "words.txt").write_text("cat\ncar\n")
    done = call("convert", path, tmp_path / "few", "--words", tmp_path / "words.txt",
                "--dtype", "float16")  # fmt: skip
    assert "2 rows x 3 (float16)" in done.output
    assert "rows: 2\n" in call("inspect", tmp_path / "few", "--words", "cat").output
    assert '"rows": 2' in call("inspect", tmp_path / "few", "--json").output
    assert "already there" in str(call("convert", path, tmp_path / "few").exception)


def test_distill_words_alone(call, tiny, tmp_path):
    (tmp_path / "words.txt").write_text("paris\nbank\n")
    done = call("distill", tiny, tmp_path / "out", "--width", "1", "--no-wordpieces",
                "--words", tmp_path / "words.txt")  # fmt: skip
    assert "2 rows x 1" in done.output


def test_every_help_has_an_example(call):
    for command in ("convert", "inspect", "distill"):
        assert f"trfnb vectors {command}" in call(command, "--help").output


def test_the_module_loads_neither_spacy_nor_torch():
    code = "import sys, trfnb.vectors.commands; assert not {'spacy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_command_that_is_terminated_leaves_nothing(tmp_path):
    """A pipe that nobody writes to keeps it waiting."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = "import sys; from trfnb.cli import main; sys.exit(main())"
    call = [sys.executable, "-c", code, "vectors", "convert", pipe, tmp_path / "out"]
    process = subprocess.Popen(call)
    while not list(tmp_path.glob(".out.partial*/vocab")):
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == [pipe]
