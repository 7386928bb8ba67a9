"""Make the newsroom corpus: ``python data/make_newsroom.py [FOLDER]``; ``--report`` measures it.

Sentences come from a small grammar (newsroom_grammar.py, newsroom_phrases.py) over chosen words
(newsroom_words.py). The same code and seed make the same bytes, which a test
checks.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter, defaultdict
from pathlib import Path

from newsroom_grammar import Writer
from newsroom_trees import Node, rows, text
from newsroom_words import CATEGORIES

SEED = 20
STORIES = {"train": 480, "dev": 120}
SENTENCES = 5  # a story

# An annotator's slips: this share of these tags becomes the other.
SLIP = 0.01
SLIPS = {"NN": "VB", "VBD": "VBN", "VBN": "VBD", "JJ": "NN", "NNS": "VBZ", "VBZ": "NNS", "RB": "JJ"}
CATEGORY_SLIP = 0.02


def make(split: str) -> tuple[str, Counter[str]]:
    """Return a split as CoNLL-U, and how many answers its coins make unknowable, by layer."""
    rng = random.Random(f"{SEED} {split}")
    blocks, lost, seen = [], Counter[str](), set[str]()
    for story in range(1, STORIES[split] + 1):
        category = rng.choice(CATEGORIES)
        for number in range(1, SENTENCES + 1):
            while True:
                writer = Writer(rng, category, dev=split == "dev")
                tree = writer.sentence()
                if text(tree) not in seen:
                    break
            seen.add(text(tree))
            lost.update(writer.lost)
            label = category
            if rng.random() < CATEGORY_SLIP:
                label = rng.choice([c for c in CATEGORIES if c != category])
            lost["cats"] += CATEGORY_SLIP
            _slip(tree, rng, lost)
            head = [f"# newdoc id = {split}-{story}"] if number == 1 else []
            head += [f"# sent_id = {split}-{story}-{number}", f"# category = {label}"]
            blocks.append("\n".join([*head, f"# text = {text(tree)}", *rows(tree)]))
    return "\n\n".join(blocks) + "\n\n", lost


def _slip(tree: Node, rng: random.Random, lost: Counter[str]) -> None:
    for word in tree.words():
        if word.tag in SLIPS:
            lost["tags"] += SLIP
            if rng.random() < SLIP:
                # The coarse tag stays what it is, so that it does not give the slip away.
                word.pos = word.pos or next(iter(rows(Node(word.form, word.tag)))).split("\t")[3]
                word.tag = SLIPS[word.tag]


def tokens(conllu: str) -> list[list[str]]:
    """Return a CoNLL-U text's rows."""
    return [line.split("\t") for line in conllu.split("\n") if line and line[0] != "#"]


def report(train: str, dev: str, lost: Counter[str]) -> str:
    """Return the difficulty of the dev split as a Markdown table."""
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    for row in tokens(train):
        tags[row[1]][row[4]] += 1
    dev_rows = tokens(dev)
    n = len(dev_rows)
    ambiguous = sum(tags[r[1]].total() > 0 and _is_ambiguous(tags[r[1]]) for r in dev_rows)
    unseen = sum(not tags[r[1]] for r in dev_rows)
    guess = sum(bool(tags[r[1]]) and tags[r[1]].most_common(1)[0][0] == r[4] for r in dev_rows)
    noun = sum(not tags[r[1]] and r[4] == "NNP" for r in dev_rows)
    named = [r for r in dev_rows if "NER=B-" in r[9]]
    new_names = sum(not tags[r[1]] for r in named)
    cats = Counter(line for line in dev.split("\n") if line.startswith("# category"))
    sentences = cats.total()
    lines = [
        ("sentences, train and dev", f"{train.count('# sent_id')} and {dev.count('# sent_id')}"),
        ("words, train and dev", f"{len(tokens(train))} and {n}"),
        ("dev words that train has with two tags or more (each ≥ 5 %)", f"{ambiguous / n:.1%}"),
        ("dev words that train does not have", f"{unseen / n:.1%}"),
        ("dev entities whose first word train does not have", f"{new_names / len(named):.1%}"),
        ("baseline: a word's most frequent tag, NNP if unseen", f"{(guess + noun) / n:.1%}"),
        ("baseline: most frequent category", f"{max(cats.values()) / sentences:.1%}"),
        ("ceiling: tags", f"{1 - lost['tags'] / n:.1%}"),
        ("ceiling: heads (UAS)", f"{1 - lost['heads'] / n:.1%}"),
        ("ceiling: labelled heads (LAS)", f"{1 - lost['deps'] / n:.1%}"),
        ("ceiling: entities", f"{1 - lost['ents'] / len(named):.1%}"),
        ("ceiling: categories", f"{1 - lost['cats'] / sentences:.1%}"),
    ]
    return "\n".join(
        ["| measure | value |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in lines)]
    )


def _is_ambiguous(counts: Counter[str]) -> bool:
    return sum(count >= 0.05 * counts.total() for count in counts.values()) > 1


def main() -> None:
    """Write both splits, or print their difficulty."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "newsroom")
    parser.add_argument("--report", action="store_true", help="print the difficulty, write nothing")
    arguments = parser.parse_args()
    train, _ = make("train")
    dev, lost = make("dev")
    if arguments.report:
        print(report(train, dev, lost))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for split, conllu in (("train", train), ("dev", dev)):
        path = arguments.folder / f"newsroom-{split}.conllu"
        path.write_text(conllu, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
