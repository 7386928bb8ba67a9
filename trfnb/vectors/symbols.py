"""spaCy's reserved strings, and an empty pipeline's files, fetched without loading spaCy here.

Loading spaCy takes longer and more memory than converting a table. Where it is not loaded yet, a
process of its own prepares what is needed while the table is read.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from trfnb.vectors.report import VectorsError

_SYMBOLS = "symbols.json"


def write_skeleton(lang: str, directory: Path) -> None:
    """Write an empty pipeline's config and tokenizer, and spaCy's reserved strings."""
    from spacy.symbols import IDS
    from spacy.util import get_lang_class
    from spacy.vocab import Vocab

    language = get_lang_class(lang)
    config = language.default_config.copy()
    config["nlp"]["lang"] = lang
    config["nlp"]["vectors"] = {"@vectors": "trfnb.Vectors.v1"}
    made = config["nlp"]["tokenizer"]["@tokenizers"] == "spacy.Tokenizer.v1"
    if made:
        # What spaCy's own factory does, without a pipeline that would load every factory.
        from types import SimpleNamespace

        from spacy.language import create_tokenizer

        light = SimpleNamespace(vocab=Vocab(), Defaults=language.Defaults)
        tokenizer: Any = create_tokenizer()(light)  # type: ignore[arg-type]
    else:
        import spacy

        tokenizer = spacy.blank(lang).tokenizer
    directory.mkdir(parents=True, exist_ok=True)
    config.to_disk(directory / "config.cfg")
    tokenizer.to_disk(directory / "tokenizer", exclude=["vocab"])
    (directory / _SYMBOLS).write_text(json.dumps(dict(IDS)), "utf8")


class Skeleton:
    """The files of an empty pipeline, being written while something else goes on.

    Args:
        lang: the language's code.
        directory: where to.
    """

    def __init__(self, lang: str, directory: Path) -> None:
        self.lang, self.directory = lang, directory
        self._process: subprocess.Popen[str] | None = None
        if "spacy" in sys.modules:
            try:
                write_skeleton(lang, directory)
            except ImportError as problem:
                raise self._unknown(str(problem)) from problem
        else:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trfnb.vectors.symbols", lang, str(directory)],
                stderr=subprocess.PIPE,
                text=True,
            )

    def symbols(self) -> dict[str, int]:
        """Wait for the files and return spaCy's reserved strings and their numbers.

        Raises:
            VectorsError: spaCy does not know the language.
        """
        if self._process is not None:
            _, errors = self._process.communicate()
            if self._process.returncode:
                tail = errors.strip().splitlines()[-1:] or ["no message"]
                raise self._unknown(tail[0])
            self._process = None
        found: dict[str, int] = json.loads((self.directory / _SYMBOLS).read_text("utf8"))
        return found

    def _unknown(self, why: str) -> VectorsError:
        return VectorsError(
            f"An empty pipeline for lang={self.lang!r} could not be made: {why}. Give a language "
            "code that spaCy knows, for example lang='en' or 'xx'."
        )

    def finish(self) -> None:
        """Take away what only the conversion needed."""
        (self.directory / _SYMBOLS).unlink(missing_ok=True)

    def stop(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@cache
def spacy_symbols() -> dict[str, int]:
    """Return spaCy's reserved strings and their numbers; this loads spaCy."""
    from spacy.symbols import IDS

    return dict(IDS)


if __name__ == "__main__":
    # No part of an empty pipeline needs torch, and thinc would load it.
    sys.modules["torch"] = None  # type: ignore[assignment]
    write_skeleton(sys.argv[1], Path(sys.argv[2]))
