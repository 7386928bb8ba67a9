"""How hard the newsroom corpus is: baselines, what is new outside training, and ceilings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping


def tokens(conllu: str) -> list[list[str]]:
    """Return a CoNLL-U text's rows."""
    return [line.split("\t") for line in conllu.split("\n") if line and line[0] != "#"]


def report(splits: Mapping[str, str], lost: Mapping[str, Counter[str]]) -> str:
    """Return size and difficulty of dev and test as a Markdown table."""
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    for row in tokens(splits["train"]):
        tags[row[1]][row[4]] += 1
    columns = [_column(splits[split], tags, lost[split]) for split in ("train", "dev", "test")]
    lines = ["| measure | train | dev | test |", "| --- | --- | --- | --- |"]
    for name in columns[1]:
        lines.append(f"| {name} | {' | '.join(column.get(name, '') for column in columns)} |")
    return "\n".join(lines)


def _column(conllu: str, tags: dict[str, Counter[str]], lost: Counter[str]) -> dict[str, str]:
    found = tokens(conllu)
    n, sentences = len(found), conllu.count("# sent_id")
    named = [row for row in found if "NER=B-" in row[9]]
    cats = Counter(line for line in conllu.split("\n") if line.startswith("# category"))
    sizes = {
        "documents": f"{conllu.count('# newdoc')}",
        "sentences": f"{sentences}",
        "words": f"{n:,}",
        "entities": f"{len(named):,}",
        "largest category": f"{max(cats.values()) / sentences:.1%}",
    }
    ambiguous = sum(_is_ambiguous(tags[row[1]]) for row in found)
    unseen = sum(not tags[row[1]] for row in found)
    guess = sum(bool(tags[r[1]]) and tags[r[1]].most_common(1)[0][0] == r[4] for r in found)
    noun = sum(not tags[row[1]] and row[4] == "NNP" for row in found)
    new_names = sum(not tags[row[1]] for row in named)
    difficulty = {
        "words that train has with two tags or more (each ≥ 5 %)": ambiguous / n,
        "words that train does not have": unseen / n,
        "entities whose first word train does not have": new_names / len(named),
        "baseline: a word's most frequent tag, NNP if unseen": (guess + noun) / n,
        "ceiling: tags": 1 - lost["tags"] / n,
        "ceiling: heads (UAS)": 1 - lost["heads"] / n,
        "ceiling: labelled heads (LAS)": 1 - lost["deps"] / n,
        "ceiling: entities": 1 - lost["ents"] / len(named),
        "ceiling: categories": 1 - lost["cats"] / sentences,
    }
    if not unseen:  # the training split itself
        return sizes
    return sizes | {name: f"{value:.1%}" for name, value in difficulty.items()}


def _is_ambiguous(counts: Counter[str]) -> bool:
    return sum(count >= 0.05 * counts.total() for count in counts.values()) > 1
