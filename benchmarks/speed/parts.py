"""What is measured: inference, engines, training, memory, start-up, growth."""

from functools import partial
from pathlib import Path
from typing import Any

from . import agreement
from .process import Side, busy
from .ratios import compared, rounds, spread
from .texts import KINDS

OURS, BOUND = "trfnb", "huggingface"
# trfnb where torch's idle threads sleep at once, instead of waiting for work in a loop.
PASSIVE = f"{OURS}-passive"
# Engines alone, and the precisions that each is measured in.
ENGINES = {
    BOUND: ("fp32", "bf16"),
    "openvino": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
}
SHIPPED, CURATED = "spacy-transformers", "spacy-curated-transformers"
Sides = dict[str, Side]


def tuned(side: Side, kind: str, clock: str) -> tuple[int | None, dict[str, float]]:
    """Return a side's fastest batch setting on a kind of text, and what each setting took."""
    answer = side.ask("choices")
    taken = {}
    for choice in [*answer["choices"], answer["default"]] if answer["choices"] else []:
        part = {"kind": kind, "precision": "fp32", "choice": choice, "part": 0.25}
        side.ask("embed", **part)
        taken[choice] = side.ask("embed", **part)[clock]
    best = min(taken, key=lambda choice: taken[choice]) if taken else None
    return best, {str(choice): round(spent, 3) for choice, spent in taken.items()}


def inference(
    sides: Sides, folder: Path, count: int, clock: str, precisions: list[str], kinds: list[str]
) -> dict[str, Any]:
    """Words a second by kind of text and precision, against peers as shipped and tuned."""
    result: dict[str, Any] = {}
    peers = [name for name in sides if name not in (OURS, BOUND)]
    for kind in kinds:
        one: dict[str, Any] = {"tuning": {}, "agreement": {}}
        result[kind] = one
        best = {}
        for name in peers:
            best[name], one["tuning"][name] = tuned(sides[name], kind, clock)
            sides[name].ask("embed", kind=kind, precision="fp32", save=True, choice=best[name])
        for precision in precisions:
            sides[OURS].ask("embed", kind=kind, precision=precision, save=True)
            for name in peers:
                if kind == "book" and name == CURATED:
                    continue  # its windows are counted in wordpieces
                found = agreement.vectors(folder, OURS, name, kind, precision)
                one["agreement"][f"{name}, {precision}"] = agreement.checked_vectors(
                    found, name, precision
                )
        turns = {OURS if p == "fp32" else f"{OURS}, {p}":
                 partial(sides[OURS].ask, "embed", kind=kind, precision=p)
                 for p in precisions}  # fmt: skip
        for name in peers:
            ask = partial(sides[name].ask, "embed", kind=kind, precision="fp32")
            turns[f"{name}, as shipped"] = ask
            turns[f"{name}, tuned"] = partial(ask, choice=best[name])
        if BOUND in sides and kind != "book":
            best[BOUND], one["tuning"][BOUND] = tuned(sides[BOUND], kind, clock)
            ask = partial(sides[BOUND].ask, "embed", kind=kind, choice=best[BOUND])
            turns |= {f"{BOUND}, {p}": partial(ask, precision=p) for p in ("fp32", "bf16")}
        found_rounds = rounds(turns, count)
        for p in precisions:
            name = OURS if p == "fp32" else f"{OURS}, {p}"
            one[p] = compared(found_rounds, name, clock)
    return result


def engines(
    sides: Sides, folder: Path, count: int, clock: str, precisions: list[str], kinds: list[str]
) -> dict[str, Any]:
    """Words a second of trfnb beside engines alone, on an idle and on a busy machine.

    The engines' figures are without docs and alignment. The states of all wordpieces are compared
    with the HuggingFace model's in fp32 first.
    """
    result: dict[str, Any] = {}
    alone = [(name, p) for name in sides if name in ENGINES for p in ENGINES[name]]
    for kind in kinds:
        found: dict[str, dict[str, float]] = {}
        sides[BOUND].ask("embed", kind=kind, precision="fp32", save="states")
        turns = {}
        for p in precisions:
            for engine in ("openvino", "torch"):
                ask = partial(sides[OURS].ask, "embed", kind=kind, precision=p, choice=engine)
                ask(save="states")
                name = f"{OURS} by {engine}, {p}"
                found[name] = agreement.checked_states(folder, OURS, BOUND, kind, p)
                turns[name] = ask
            if PASSIVE in sides:
                turns[f"{OURS} by torch, threads that sleep, {p}"] = partial(
                    sides[PASSIVE].ask, "embed", kind=kind, precision=p, choice="torch"
                )
        for name, p in alone:
            turns[f"{name}, {p}"] = ask = partial(sides[name].ask, "embed", kind=kind, precision=p)
            if (name, p) != (BOUND, "fp32"):
                ask(save="states")
                found[f"{name}, {p}"] = agreement.checked_states(folder, name, BOUND, kind, p)
        result[kind] = {"agreement": found}
        result[kind] |= _each_precision(rounds(turns, count), precisions, clock)
        some = {name: partial(ask, part=0.25) for name, ask in turns.items()}
        with busy():
            found_busy = rounds(some, count)
        result[f"{kind}, one busy process a core"] = _each_precision(found_busy, precisions, clock)
    return result


# Compare what trfnb reached through OpenVINO in each precision with everything else.
def _each_precision(found: Any, precisions: list[str], clock: str) -> dict[str, Any]:
    return {p: compared(found, f"{OURS} by openvino, {p}", clock) for p in precisions}


def training(
    sides: Sides, count: int, clock: str, precisions: list[str], batch_words: int
) -> dict[str, Any]:
    """Words a second of multi-task training, after checking that first losses agree."""
    peers = [name for name in sides if name not in (OURS, BOUND)]
    ours = sides[OURS].ask("losses", batch_words=batch_words)
    result: dict[str, Any] = {"losses": {OURS: ours}, "agreement": {}}
    for name in peers:
        theirs = sides[name].ask("losses", batch_words=batch_words, choice=32 if name == CURATED
                                 else None)  # fmt: skip
        result["losses"][name] = theirs
        if name == SHIPPED:
            result["agreement"][name] = agreement.losses(ours, theirs)
    turns = {OURS if p == "fp32" else f"{OURS}, {p}":
             partial(sides[OURS].ask, "train", precision=p, batch_words=batch_words)
             for p in precisions}  # fmt: skip
    for name in peers:
        turns[name] = partial(sides[name].ask, "train", batch_words=batch_words,
                              choice=32 if name == CURATED else None)  # fmt: skip
    found = rounds(turns, count)
    for p in precisions:
        result[p] = compared(found, OURS if p == "fp32" else f"{OURS}, {p}", clock)
    return result


def memory(sides: Sides, precisions: list[str], batch_words: int) -> dict[str, Any]:
    """Peak memory of a fresh process that does one thing."""
    works: dict[str, dict[str, Any]] = {
        "inference": {"do": "embed", "kind": "documents"},
        "training": {"do": "train", "batch_words": batch_words, "batches": 2},
    }
    result: dict[str, Any] = {}
    for work, request in works.items():
        peaks = {}
        for name, side in sides.items():
            if name == BOUND:
                continue
            for p in precisions if name == OURS else ["fp32"]:
                choices: dict[str, int | None] = {"": None}
                if name == CURATED:
                    choices = {", 32 spans": 32}
                elif name == SHIPPED and work == "inference":
                    choices = {", as shipped": None, ", 512": 512}
                for label, choice in choices.items():
                    side.renew()
                    side.ask(**request, precision=p, choice=choice)
                    key = name + label + ("" if p == "fp32" else f", {p}")
                    peaks[key] = round(side.ask("peak")["mb"])
        result[work] = {
            "MB": peaks,
            "ratio": {name: round(peaks[OURS] / mb, 3) for name, mb in peaks.items()},
        }
    return result


def start_up(sides: Sides, count: int) -> dict[str, Any]:
    """Seconds from `spacy.load` to the first doc, each in a fresh process, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in sides if name != BOUND}
    for name in taken:
        sides[name].ask("save")
    for _ in range(count):
        for name, seconds in taken.items():
            seconds.append(sides[name].start_up())
    return {name: spread(seconds) for name, seconds in taken.items()}


def growth(sides: Sides, count: int, clock: str) -> dict[str, Any]:
    """Seconds a word as a corpus, a document or the number of listeners grows."""
    ours = sides[OURS]
    result: dict[str, Any] = {}
    for name, kind in (("corpus", "documents"), ("document", "book")):
        turns = {str(part): partial(ours.ask, "embed", kind=kind, precision="fp32", part=part)
                 for part in (0.25, 0.5, 1.0)}  # fmt: skip
        found = rounds(turns, count)
        result[name] = {
            str(found[part][0]["words"]): spread([one[clock] / one["words"] * 1e6 for one in some])
            for part, some in found.items()
        }
    turns = {str(n): partial(ours.ask, "listen", listeners=n) for n in (1, 2, 4, 8)}
    found = rounds(turns, count)
    result["listeners"] = {
        n: spread([one[clock] / one["words"] * 1e6 for one in some]) for n, some in found.items()
    }
    return result


__all__ = ["KINDS", "engines", "growth", "inference", "memory", "start_up", "training"]
