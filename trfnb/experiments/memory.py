"""Peak memory of a pipeline, measured in a fresh process that does nothing else."""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example

MEGABYTE = 1e6
Work = Literal["inference", "training"]


def peak_memory(nlp: Language, docs: Sequence[Doc], work: Work = "inference") -> dict[str, float]:
    """Measure what a process needs to load the pipeline and work through the documents.

    Args:
        nlp: saved to a temporary folder and loaded from there by a new Python process.
        docs: gold documents; inference reads their words alone, training makes one update on each
            batch of the pipeline's own batcher.
        work: what to do with them.

    Returns:
        Megabytes (10^6 bytes) of resident memory: ``peak``, the process's high-water mark with
        interpreter, libraries, weights and activations; ``libraries``, the mark after the imports;
        ``over_libraries``, their difference. Memory on a GPU is not included.

    Raises:
        RuntimeError: the process failed; quotes its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(Path(folder) / "pipeline")
        DocBin(docs=docs, store_user_data=False).to_disk(Path(folder) / "docs.spacy")
        command = [sys.executable, "-m", "trfnb.experiments.memory", folder, work]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Measuring the memory of {work} failed:\n{done.stderr[-2000:]}")
    marks = json.loads(done.stdout.splitlines()[-1])
    return {**marks, "over_libraries": marks["peak"] - marks["libraries"]}


def high_water() -> float:
    """Return this process's largest resident size so far, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage counts the parent's size too, from before this program was loaded.
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE  # bytes on macOS


def _work(folder: Path, work: str) -> dict[str, float]:
    from trfnb.experiments.training import settings_of, update

    marks = {"libraries": high_water()}
    nlp = spacy.load(folder / "pipeline")
    gold = list(DocBin().from_disk(folder / "docs.spacy").get_docs(nlp.vocab))
    examples = [Example(words_only(doc), doc) for doc in gold]
    if work == "training":
        settings = settings_of(nlp)
        for batch in settings["batcher"](examples):
            update(nlp, list(batch), settings, dropout=0.1)
    else:
        for _ in nlp.pipe(example.predicted for example in examples):
            pass
    return {**marks, "peak": high_water()}


def words_only(doc: Doc) -> Doc:
    """Return the document's words and spaces without any annotation."""
    return Doc(doc.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc])


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(_work(Path(sys.argv[1]), sys.argv[2])) + "\n")
