"""What a factor costs: a step at 0 beside one at 1, and what measuring adds to a step.

    python benchmarks/gradients.py path/to/ud_ewt --layer path/to/uner_ewt

Writes the table of a run of 200 steps, its figures and the times to ``benchmarks/results``.
"""

import argparse
import json
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter

from trfnb import corpora, plots
from trfnb.experiments import weights
from trfnb.experiments.configs import build_config
from trfnb.experiments.forgetting import log_of
from trfnb.experiments.training import initialize, settings_of, updates
from trfnb.flow import gradients

RESULTS = Path(__file__).parent / "results"
TASKS = ("tagger", "parser", "ner")


def pipeline(corpus, encoder, **options):
    config = build_config(TASKS, encoder, max_steps=1000, **options)
    config["training"]["optimizer"]["L2"] = 0.1
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
    return nlp, settings_of(nlp)


def batches(corpus, nlp, settings):
    return cycle(settings["batcher"](corpus.examples("train", nlp.vocab)))


def seconds_of(nlp, settings, batch):
    """Make one update and return its seconds."""
    (row,) = updates(nlp, [(0, list(batch))], settings)
    return row["seconds"]


def turn(nlp, upstream, factor):
    for listener in nlp.get_pipe(upstream).listeners:
        listener.grad_factor = factor


def step_costs(corpus, encoder, rounds, words):
    """Steps at 0 and at 1 on the same batches, one after the other."""
    nlp, settings = pipeline(corpus, encoder, batch_words=words)
    shared = nlp.pipe_names[0]
    stream = batches(corpus, nlp, settings)
    for _ in range(3):
        seconds_of(nlp, settings, next(stream))
    seconds = {0.0: [], 1.0: []}
    for _ in range(rounds):
        batch = next(stream)
        for factor in seconds:
            turn(nlp, shared, factor)
            seconds[factor].append(seconds_of(nlp, settings, batch))
    turn(nlp, shared, 0.0)
    before, head = weights.fingerprint(nlp, shared), weights.fingerprint(nlp, "tagger")
    for _ in range(5):
        seconds_of(nlp, settings, next(stream))
    return {
        "rounds": rounds,
        "words_a_step": words,
        "seconds_at_0": median(seconds[0.0]),
        "seconds_at_1": median(seconds[1.0]),
        "ratio": median(a / b for a, b in zip(seconds[0.0], seconds[1.0], strict=True)),
        "sha256_before_5_steps_at_0_with_L2_0.1": before,
        "sha256_after": weights.fingerprint(nlp, shared),
        "heads_moved": weights.fingerprint(nlp, "tagger") != head,
    }


def measured_run(corpus, encoder, steps, words):
    """A run with the time that its measurements take inside each step."""
    spent = [0.0]
    log = gradients.GradientLog
    gram, add, close = gradients.gram, log.add, log.close

    def timed(function):
        def call(*args, **settings):
            start = perf_counter()
            try:
                return function(*args, **settings)
            finally:
                spent[0] += perf_counter() - start

        return call

    gradients.gram = timed(gram)
    log.add, log.close = timed(add), timed(close)
    nlp, settings = pipeline(corpus, encoder, batch_words=words)
    stream, total, shares = batches(corpus, nlp, settings), 0.0, []
    for _ in range(steps):
        spent[0] = 0.0
        seconds = seconds_of(nlp, settings, next(stream))
        total += seconds
        shares.append(spent[0] / seconds)
    gradients.gram = gram
    log.add, log.close = add, close
    return log_of(nlp), {
        "steps": steps,
        "words_a_step": words,
        "seconds": total,
        "overhead_median": median(shares),
        "overhead_worst_of_20": sorted(shares)[int(len(shares) * 0.95)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="?", default="newsroom")
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--encoders", nargs="+", default=["minilm", "tok2vec"])
    parser.add_argument("--only", choices=("costs", "run"))
    given = parser.parse_args()
    corpus = corpora.load(given.corpus, layers=given.layer, limit=2500, dev_limit=50)
    name = Path(given.corpus).name
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gradients_{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for encoder in given.encoders:
        entry = found.setdefault(encoder, {})
        if given.only != "run":
            entry["step"] = step_costs(corpus, encoder, given.rounds, given.words)
            print(encoder, entry["step"])
        if given.only != "costs":
            log, entry["run"] = measured_run(corpus, encoder, given.steps, given.words)
            print(encoder, entry["run"])
            table, pairs = log.table(), log.conflicts()
            entry["means"] = table.groupby("listener")[["raw_norm", "share"]].mean().to_dict()
            entry["cosine"] = {
                f"{a} · {b}": rows["cosine"].mean()
                for (a, b), rows in pairs.groupby(["first", "second"], sort=False)
            }
            table.to_csv(RESULTS / f"steps_{name}_{encoder}.csv", index=False, float_format="%.5g")
            pairs.to_csv(RESULTS / f"pairs_{name}_{encoder}.csv", index=False, float_format="%.5g")
            plots.overview(log).savefig(RESULTS / f"steps_{name}_{encoder}.png", dpi=80)
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
