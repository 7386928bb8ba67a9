"""Further annotation of the same sentences, joined by ``sent_id``."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trfnb.corpora.errors import CorpusError, Problems
from trfnb.corpora.sentence import LAYERS, Sentence


def join_layer(
    splits: Mapping[str, list[Sentence]],
    layer: Iterable[Sentence],
    name: str,
    problems: Problems,
) -> dict[str, list[Sentence]]:
    """Fill layers that the sentences lack from another reading of them.

    Args:
        splits: Sentences to annotate further, by split; what they have already stays.
        layer: Sentences with the same ``sent_id`` and words, of any split, in any order.
        name: The layer's name, for messages.
        problems: What to do with a sentence that the layer lacks or that has other words there.

    Returns:
        The splits without those sentences.

    Raises:
        CorpusError: the layer or the sentences have no ids, no id is common to both, or, unless
            ``problems`` skips them, a sentence has no partner.
    """
    index: dict[str, list[Sentence]] = {}
    for other in layer:
        if other.sent_id is not None:
            index.setdefault(other.sent_id, []).append(other)
    if not any(s.sent_id in index for sentences in splits.values() for s in sentences):
        raise CorpusError(
            name,
            expected="a layer with the sent_id of the sentences to annotate",
            got=f"{len(index)} sentences with a sent_id, none of them among those",
            hint="Give both files '# sent_id = …' lines of the same corpus",
        )
    joined: dict[str, list[Sentence]] = {split: [] for split in splits}
    for split, sentences in splits.items():
        for sentence in sentences:
            others = index.get(sentence.sent_id or "", [])
            same = [other for other in others if other.words == sentence.words]
            if same:
                joined[split].append(replace(sentence, **_news(sentence, same[0])))
            else:
                problems.meet(_mismatch(sentence, others[0] if others else None, name))
    return joined


def _news(sentence: Sentence, other: Sentence) -> dict[str, Any]:
    values = {key: getattr(other, key) for key in LAYERS if getattr(sentence, key) is None}
    return {key: value for key, value in values.items() if value is not None}


def _mismatch(sentence: Sentence, other: Sentence | None, name: str) -> CorpusError:
    hint = 'Use matching releases, or pass on_mismatch="skip" to leave such sentences out'
    if other is None:
        return CorpusError(
            name,
            expected=f"the sentence {sentence.sent_id!r}",
            got="no sentence of that sent_id",
            hint=hint,
            reason=f"not in layer {name}",
        )
    pairs = zip(sentence.words, other.words, strict=False)
    length = min(len(sentence.words), len(other.words))
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), length)
    return CorpusError(
        name,
        expected=f"in {sentence.sent_id!r} from word {at + 1} on {sentence.words[at : at + 4]}",
        got=f"{other.words[at : at + 4]}",
        hint=hint,
        reason=f"tokens differ in layer {name}",
    )
