"""spaCy's reserved strings, and an empty pipeline's files, fetched without loading spaCy here.

Loading spaCy takes longer and more memory than converting a table. Where it is not loaded yet, a
process of its own prepares what is needed while the table is read, and a copy is kept in the
user's cache for the next time.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from trfnb import __version__
from trfnb.vectors.report import VectorsError

_SYMBOLS = "symbols.json"


def _stub(name: str, **attributes: Any) -> ModuleType:
    stub = ModuleType(name)
    stub.__dict__.update(attributes)
    return stub


# What spaCy loads at once and an empty pipeline has no use for: torch, by way of thinc, and the
# command line, whose web clients are half of spaCy's loading time.
_STUBS: dict[str, Any] = {
    "torch": None,
    "spacy.cli": _stub("spacy.cli"),
    "spacy.cli.info": _stub("spacy.cli.info", info=None),
}


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
        # A factory of its own may need anything, and a pipeline loads every entry point.
        for name in [name for name, stub in _STUBS.items() if sys.modules.get(name) is stub]:
            del sys.modules[name]
        import spacy

        tokenizer = spacy.blank(lang).tokenizer
    directory.mkdir(parents=True, exist_ok=True)
    config.to_disk(directory / "config.cfg")
    tokenizer.to_disk(directory / "tokenizer", exclude=["vocab"])
    (directory / _SYMBOLS).write_text(json.dumps(dict(IDS)), "utf8")


def _cache(lang: str) -> Path | None:
    """Say where an empty pipeline of these versions is kept; None for a language not spaCy's own.

    Whoever brings a language of their own may change it without a change of version.
    """
    spacy = find_spec("spacy")
    if spacy is None or spacy.origin is None:
        return None
    if not lang.isalnum() or not (Path(spacy.origin).parent / "lang" / lang).is_dir():
        return None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "trfnb" / "pipelines" / f"{lang}-{__version__}-spacy-{version('spacy')}"


class Skeleton:
    """The files of an empty pipeline, being written while something else goes on.

    Args:
        lang: the language's code.
        directory: where to.
    """

    def __init__(self, lang: str, directory: Path) -> None:
        self.lang, self.directory = lang, directory
        self._process: subprocess.Popen[str] | None = None
        # A spaCy that is loaded already may know another language under this code.
        self._cache = None if "spacy" in sys.modules else _cache(lang)
        if self._cache is not None and (self._cache / _SYMBOLS).is_file():
            shutil.copytree(self._cache, directory, dirs_exist_ok=True)
        elif "spacy" in sys.modules:
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

    def check(self) -> None:
        """Raise `VectorsError` if spaCy does not know the language, as soon as that is known."""
        if self._process is not None and self._process.poll():
            self.symbols()

    def symbols(self) -> dict[str, int]:
        """Wait for the files and return spaCy's reserved strings and their numbers.

        Raises:
            VectorsError: spaCy does not know the language.
        """
        if self._process is not None:
            _, errors = self._process.communicate()
            failed, self._process = self._process.returncode, None
            if failed:
                tail = errors.strip().splitlines()[-1:] or ["no message"]
                raise self._unknown(tail[0])
        found: dict[str, int] = json.loads((self.directory / _SYMBOLS).read_text("utf8"))
        return found

    def _unknown(self, why: str) -> VectorsError:
        return VectorsError(
            f"An empty pipeline for lang={self.lang!r} could not be made: {why}. Give a language "
            "code that spaCy knows, for example lang='en' or 'xx'."
        )

    def finish(self) -> None:
        """Keep a copy for the next conversion; take away what only this one needed."""
        if self._cache is not None and not self._cache.exists():
            partial = self._cache.with_name(f"{self._cache.name}.{os.getpid()}")
            # A cache that cannot be written is no reason to fail.
            with suppress(OSError):
                partial.mkdir(parents=True)
                for name in ("config.cfg", "tokenizer", _SYMBOLS):
                    shutil.copy(self.directory / name, partial / name)
                partial.rename(self._cache)
            shutil.rmtree(partial, ignore_errors=True)
        (self.directory / _SYMBOLS).unlink(missing_ok=True)

    def stop(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def spacy_symbols_here() -> dict[str, int]:
    """Return spaCy's reserved strings and their numbers; this loads spaCy."""
    from spacy.symbols import IDS

    return dict(IDS)


@cache
def spacy_symbols() -> dict[str, int]:
    """Return spaCy's reserved strings and their numbers; spaCy is not loaded for them here."""
    if "spacy" in sys.modules:
        return spacy_symbols_here()
    call = [sys.executable, "-m", "trfnb.vectors.symbols"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    # Nothing becomes garbage here; looking for it, at the end once more, takes a fifth of the time.
    gc.disable()
    sys.modules.update(_STUBS)
    if sys.argv[1:]:
        write_skeleton(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.stdout.write(json.dumps(spacy_symbols_here()))
    gc.freeze()
