"""The command: build environments, write the texts, measure the parts, keep JSON and a figure."""

import argparse
import logging
import os
import platform
import sys
import tempfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import srsly
import torch

from trfnb import models

from . import parts
from .environments import ENGINES, PEERS, ROOT, python
from .figure import draw
from .printing import show
from .process import sides
from .texts import KINDS, write

RESULTS = Path(__file__).parents[1] / "results"
PARTS = ("inference", "engines", "training", "memory", "start-up", "growth")
# Ratios a quick run must reach; wide, because a shared runner is noisy.
QUICK = {"huggingface, fp32": 0.8, "spacy-transformers, as shipped": 1.3}


def main() -> None:
    """Measure what was asked for; a quick run fails where a ratio fell."""
    given = _arguments()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ["TRFNB_DEVICE"] = given.device
    asked = given.side or [parts.BOUND, *([] if given.quick else PEERS)]
    path = given.model or models.path("minilm")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(given.folder or name)
        sizes = write(folder, given.corpus, given.words, given.book, 4 * given.batch_words)
        about = _about(given, sizes)
        for part in given.only:
            names = [parts.OURS, *([parts.PASSIVE, *parts.ENGINES] if part == "engines" else asked)]
            pythons = {name: python(name, given.environments) for name in names}
            with sides(names, pythons, folder, path) as running:
                found = _measure(part, running, folder, given)
            report = {"about": about, **found}
            show(part, report)
            if not given.quick:
                file = RESULTS / f"speed_{part.replace('-', '_')}{given.suffix}.json"
                RESULTS.mkdir(exist_ok=True)
                if given.add and file.exists():
                    report = {**srsly.read_json(file), **report}
                srsly.write_json(file, report)
            elif part == "inference":
                _check(found)
    if not given.quick:
        draw(RESULTS, ROOT / "docs" / "figures" / "speed.png")


def _measure(part: str, running: parts.Sides, folder: Path, given: Any) -> dict[str, Any]:
    precisions = ["fp32", "auto"] if given.auto else ["fp32"]
    count, clock = given.rounds, given.clock
    if part == "inference":
        kinds = given.kinds or list(KINDS)
        return parts.inference(running, folder, count, clock, precisions, kinds)
    if part == "engines":
        kinds = given.kinds or ["documents", "sentences"]
        return parts.engines(running, folder, count, clock, precisions, kinds)
    if part == "training":
        half = ["fp32", "bf16"] if given.auto else ["fp32"]
        return parts.training(running, count, clock, half, given.batch_words)
    if part == "memory":
        return parts.memory(running, precisions, given.batch_words)
    if part == "start-up":
        return parts.start_up(running, count)
    return parts.growth(running, count, clock)


def _check(found: dict[str, Any]) -> None:
    """End with an error where a ratio is below what a quick run must reach."""
    fell = [
        f"{kind}: {ratio['median']} times {name}, expected at least {QUICK[name]}"
        for kind, one in found.items()
        for name, ratio in one["fp32"]["ratio"].items()
        if name in QUICK and ratio["median"] < QUICK[name]
    ]
    if fell:
        sys.exit("Slower than it was:\n- " + "\n- ".join(fell))


def _about(given: Any, sizes: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "date": date.today().isoformat(),
        "corpus": Path(given.corpus).name,
        "texts": sizes,
        "clock": given.clock,
        "rounds": given.rounds,
        "threads": os.environ.get("OMP_NUM_THREADS") or os.cpu_count(),
        **_machine(),
        "versions": {
            name: version(name)
            for name in ("torch", "transformers", "spacy", "thinc", "openvino")
            if find_spec(name)
        },
        "peers": {**PEERS, **ENGINES},
    }


# Return the processor, what it multiplies natively beside fp32, and the libraries that multiply.
def _machine() -> dict[str, Any]:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    told = {name.strip(): text.strip() for name, _, text in (one.partition(":") for one in lines)}
    flags = told.get("flags", "").split()
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "device": torch.cuda.get_device_name() if os.environ["TRFNB_DEVICE"] != "cpu" else "cpu",
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [one for one in flags if "bf16" in one or "vnni" in one or "amx" in one],
        "BLAS": {
            "numpy": f"{blas['name']} {blas['version']}",
            "torch": "MKL" if torch.backends.mkl.is_available() else "not MKL",
        },
    }


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--corpus", default="newsroom", help="a name or a path, such as UD EWT")
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers",
                        help="folder of the peers' virtual environments")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=PARTS, default=None)
    parser.add_argument("--side", nargs="+", choices=[parts.BOUND, *PEERS])
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, "book"], default=None)
    parser.add_argument("--words", type=int, default=None, help="of each kind of text")
    parser.add_argument("--book", type=int, default=100_000, help="words of the one long text")
    parser.add_argument("--batch-words", type=int, default=1000, help="of a training batch")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--clock", choices=["seconds", "cpu"], default="seconds",
                        help="cpu where others use the machine too")  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                        help="cuda: trfnb, huggingface and curated transformers")  # fmt: skip
    parser.add_argument("--no-auto", dest="auto", action="store_false", help="fp32 alone")
    parser.add_argument("--model", help="a local model in place of MiniLM")
    parser.add_argument("--folder", help="keep what the sides exchange")
    parser.add_argument("--suffix", default="", help="added to the result files' names")
    parser.add_argument("--add", action="store_true",
                        help="keep what the result files hold of other kinds of text")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="check ratios alone, in a minute")
    given = parser.parse_args()
    given.only = given.only or (["inference"] if given.quick else list(PARTS))
    given.words = given.words or (800 if given.quick else 4000)
    given.rounds = given.rounds or 3
    given.auto = given.auto and not given.quick
    return given
