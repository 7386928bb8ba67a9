"""An output belongs to the tokens it was computed for, whatever object carries it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spacy
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_pipelines import LISTENER, examples, initialized, transformer_pipeline
from spacy.kb import InMemoryLookupKB
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.util import registry
from spacy.vocab import Vocab
from thinc.api import Adam
from typer.testing import CliRunner

import trfnb
from trfnb import Transformer
from trfnb.pipe import component
from trfnb.pipe.component import prefetch

TEXTS = ["paris meets april in the bank", "the river", "", "unable plans of the river bank"]
SMALL = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 8, "depth": 1, "embed_size": 50}
SMALL |= {"window_size": 1, "maxout_pieces": 2, "subword_features": False}
SMALL["pretrained_vectors"] = None


def listener_of(nlp, name="tagger"):
    return nlp.get_pipe(name).model.get_ref("tok2vec")


def merged(doc, start, end):
    with doc.retokenize() as change:
        change.merge(doc[start:end])
    return doc


def rows_of(data, start, end):
    """The mean over all rows of some tokens, by hand."""
    ends = np.cumsum([0, *data.row_align.lengths])
    rows = np.unique(data.row_align.dataXd[ends[start] : ends[end]])
    return data.layer(-1)[rows].sum(0) / max(1, len(rows))


def test_merged_tokens_have_the_rows_of_all_parts(tiny):
    nlp = transformer_pipeline(tiny)
    a, b = nlp.get_pipe("transformer").pipe([nlp.make_doc(text) for text in TEXTS[:2]])
    before, expected = listener_of(nlp).predict([a, b]), rows_of(a._.trf_data, 0, 3)
    merged(a, 0, 3)
    after = listener_of(nlp).predict([a, b])
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[0][1:], before[0][3:])
    np.testing.assert_allclose(after[0][0], expected, atol=1e-6)
    np.testing.assert_allclose(trfnb.token_vectors(a), after[0], atol=1e-6)


@given(st.data())
@settings(max_examples=50, deadline=None, phases=[Phase.explicit, Phase.generate])
@pytest.mark.filterwarnings("ignore:.W101")
def test_any_change_to_a_doc_gives_right_vectors_or_an_error(changeable, data):
    nlp, encode = changeable
    doc = encode(nlp.make_doc(data.draw(st.sampled_from([TEXTS[0], TEXTS[3], "the  bank ."]))))
    other = encode(nlp.make_doc(TEXTS[1]))
    beside = listener_of(nlp).predict([other])[0]
    kept, text, parts = doc._.trf_data, doc.text, [token.text for token in doc]
    starts, ends = zip(*((t.idx, t.idx + len(t)) for t in doc), strict=True)
    kinds = st.sampled_from(["merge", "split", "copy", "part", "moved", "joined", "carried"])
    for change in data.draw(st.lists(kinds, max_size=3)):
        start = data.draw(st.integers(0, len(doc) - 1))
        end = data.draw(st.integers(start + 1, len(doc)))
        if change == "merge":
            merged(doc, start, end)
        elif change == "split" and len(doc[start].text) > 1:
            word = doc[start].text
            with doc.retokenize() as split:
                split.split(doc[start], [word[:1], word[1:]], heads=[doc[start], doc[start]])
        elif change == "copy":
            doc = doc.copy()
        elif change == "part":
            doc = doc[start:end].as_doc(copy_user_data=data.draw(st.booleans()))
        elif change == "moved":
            doc = Doc(Vocab()).from_bytes(doc.to_bytes())
        elif change == "joined":
            two = doc.vocab is other.vocab and data.draw(st.booleans())
            doc = Doc.from_docs([doc, other] if two else [doc])
        elif change == "carried":
            carrier = Doc(nlp.vocab, [token.text for token in doc][::-1])
            carrier._.trf_data = doc._.trf_data
            doc = carrier
    found = listener_of(nlp).predict([doc, other])
    np.testing.assert_array_equal(found[1], beside)
    # A vocabulary that a merged doc moved to may never have seen the parts: an error, too.
    known = all(part in doc.vocab.strings for part in parts)
    only_merged = doc._.trf_data is not None and doc.text == text and known
    if only_merged and all(t.idx in starts and t.idx + len(t) in ends for t in doc):
        expected = [rows_of(kept, starts.index(t.idx), ends.index(t.idx + len(t)) + 1) for t in doc]
        np.testing.assert_allclose(trfnb.token_vectors(doc), expected, atol=1e-5)
    else:
        words, spaces = [t.text for t in doc], [bool(t.whitespace_) for t in doc]
        expected = trfnb.token_vectors(encode(Doc(nlp.vocab, words, spaces)))
        with pytest.raises(ValueError, match="token_vectors expected"):
            trfnb.token_vectors(doc)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.fixture(scope="module")
def changeable(tiny):
    nlp = transformer_pipeline(tiny)
    return nlp, nlp.get_pipe("transformer")


def train_on_copies(nlp, shared, copied):
    optimizer = Adam(0.01)
    for _ in range(2):
        batch = examples(nlp)
        nlp.get_pipe(shared).update(batch)
        given = [Example(eg.predicted.copy(), eg.reference) for eg in batch] if copied else batch
        for name in ("tagger", "ner"):
            nlp.get_pipe(name).update(given)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    return nlp.get_pipe(shared).to_bytes(exclude=["vocab"])


@pytest.mark.parametrize("own", ["spacy.Tok2VecListener.v1", None])
def test_training_on_copies_is_training(tiny, own):
    def pipeline():
        if own is None:
            return transformer_pipeline(tiny), "transformer"
        nlp = spacy.blank("en")
        nlp.add_pipe("trfnb_tok2vec", name="tok2vec", config={"model": SMALL})
        for name in ("tagger", "ner"):
            tok2vec = {"@architectures": own, "width": 8}
            nlp.add_pipe(name, config={"model": {"tok2vec": tok2vec}})
        return initialized(nlp), "tok2vec"

    start = pipeline()[0].get_pipe(pipeline()[1]).to_bytes(exclude=["vocab"])
    expected = train_on_copies(*pipeline(), copied=False)
    assert train_on_copies(*pipeline(), copied=True) == expected != start


@pytest.mark.parametrize("kind", ["transformer", "tok2vec"])
def test_entity_linker_trains_and_predicts_on_sentences(tiny, kind):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    if kind == "transformer":
        nlp.add_pipe("trfnb_transformer", name=kind, config={"model": {"name": tiny}})
        listener, width = LISTENER, 16
    else:
        nlp.add_pipe("trfnb_tok2vec", name=kind, config={"model": SMALL})
        listener, width = {"@architectures": "trfnb.Tok2VecListener.v1", "width": 8}, 8

    @registry.misc("trfnb_test_kb")
    def make_kb():
        def load(vocab):
            kb = InMemoryLookupKB(vocab, entity_vector_length=width)
            for i in (0, 1):
                kb.add_entity(f"Q{i}", 1, [1.0 - i, i] + (width - 2) * [0.0])
            kb.add_alias("Paris", ["Q0", "Q1"], [0.5, 0.5])
            return kb

        return load

    model = {"@architectures": "spacy.EntityLinker.v2", "tok2vec": listener}
    nlp.add_pipe("entity_linker", config={"entity_vector_length": width, "model": model})
    linker = {"kb_loader": {"@misc": "trfnb_test_kb"}}
    nlp.config["initialize"]["components"]["entity_linker"] = linker

    def batch():
        reference = nlp.make_doc("the bank . Paris plans .")
        reference.ents = [reference.char_span(11, 16, "LOC", kb_id="Q0")]
        for token in reference:
            token.is_sent_start = token.i in (0, 3)
        return [Example(nlp.make_doc(reference.text), reference)]

    nlp.initialize(batch)
    start, optimizer = nlp.get_pipe(kind).to_bytes(exclude=["vocab"]), Adam(0.01)
    losses = nlp.update(batch(), sgd=optimizer, annotates=["sentencizer"])
    assert losses["entity_linker"] > 0
    assert nlp.get_pipe(kind).to_bytes(exclude=["vocab"]) != start
    doc = nlp.get_pipe(kind)(nlp.get_pipe("sentencizer")(nlp.make_doc(batch()[0].text)))
    doc.ents = [doc.char_span(11, 16, "LOC")]
    assert nlp.get_pipe("entity_linker")(doc).ents[0].kb_id_ in ("Q0", "Q1")


def test_two_transformers_before_a_listener_to_any(tiny):
    nlp = spacy.blank("en")
    for name in ("one", "two"):
        nlp.add_pipe("trfnb_transformer", name=name, config={"model": {"name": tiny}})

    def add_tagger():
        nlp.add_pipe("tagger", config={"model": {"tok2vec": LISTENER}})
        initialized(nlp, free=("one", "two"))

    with pytest.warns(UserWarning, match="found two components to listen to, 'one' and 'two'"):
        add_tagger()
    assert nlp.get_pipe("one").listening_components == []
    assert nlp.get_pipe("two").listening_components == ["tagger"]
    nlp.get_pipe("one").storage = nlp.get_pipe("two").storage = "none"
    assert nlp("the river")._.trf_data is None


def test_an_output_that_was_read_and_dropped_is_computed_again(tiny):
    nlp = transformer_pipeline(tiny)
    expected = trfnb.token_vectors(nlp("the river"))
    nlp.get_pipe("transformer").storage = "none"
    doc = nlp.make_doc("the river")
    for batch_size in (1, 2):
        assert len(list(nlp.pipe([doc, doc], batch_size=batch_size))) == 2
        assert doc._.trf_data is None
    np.testing.assert_allclose(listener_of(nlp).predict([doc])[0], expected, atol=1e-6)
    nlp.get_pipe("ner").predict([doc])


def test_a_disabled_or_removed_transformer_is_named(tiny):
    nlp = transformer_pipeline(tiny)
    expected, transformer = [token.tag_ for token in nlp("the river")], nlp.get_pipe("transformer")
    with (
        nlp.select_pipes(disable=["transformer"]),
        pytest.raises(ValueError, match=r"is disabled or was removed.*nlp\.enable_pipe"),
    ):
        nlp("the river")
    doc = nlp.make_doc("the river")
    doc = nlp.get_pipe("tagger")(doc)
    assert [token.tag_ for token in doc] == expected, "a doc that never met it is encoded"
    nlp.remove_pipe("transformer")
    with pytest.raises(ValueError, match="disabled or was removed from the pipeline"):
        nlp("the river")
    assert transformer.name == "transformer"
    with pytest.raises(ValueError, match="expected a doc with transformer output"):
        trfnb.token_vectors(nlp.make_doc("Paris"))


def test_threads_share_a_model(tiny):
    nlp = transformer_pipeline(tiny, tagger={"layer": 1})
    node = nlp.get_pipe("transformer").model.layers[0]
    layers, expected = list(node.attrs["layers"]), [nlp(text).to_json() for text in TEXTS]
    with ThreadPoolExecutor(8) as threads:
        found = [doc.to_json() for doc in threads.map(nlp, TEXTS * 6)]
    assert found == expected * 6
    assert node.attrs["layers"] == layers == [-1, 1]


def test_spacy_debug_model(tiny, tmp_path):
    from spacy.cli import app

    nlp = spacy.blank("en")
    nlp.add_pipe("transformer", config={"model": {"name": tiny}})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": LISTENER}})
    config = nlp.config.copy()
    for split in ("train", "dev"):
        config["paths"][split] = config["corpora"][split]["path"] = str(tmp_path / "d.spacy")
    config.to_disk(tmp_path / "d.cfg")
    DocBin(docs=[Doc(nlp.vocab, words=["a", "b"], tags=["X", "Y"])]).to_disk(tmp_path / "d.spacy")
    result = CliRunner().invoke(app, ["debug", "model", str(tmp_path / "d.cfg"), "tagger", "-P3"])
    assert result.exit_code == 0, result.output
    assert "Successfully ended analysis" in result.output


def test_the_setter_under_its_later_name(tiny):
    seen = []

    def setter(docs, batch):
        seen.extend(docs)

    nlp = transformer_pipeline(tiny)
    model = nlp.get_pipe("transformer").model
    doc = Transformer(nlp.vocab, model, set_extra_annotations=setter)(nlp.make_doc("the river"))
    assert seen == [doc]


@pytest.fixture
def threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(component, "_TOKENS_A_PART", 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stream_that_waits_for_answers_goes_on(tiny, threads, batch_size):
    nlp, answered = transformer_pipeline(tiny), []

    def asked():
        for n, text in enumerate(TEXTS * 2):
            assert len(answered) >= n - n % batch_size, "drawn before the last batch came back"
            yield text

    for doc in nlp.pipe(asked(), batch_size=batch_size):
        answered.append(doc)
    for doc, text in zip(answered, TEXTS * 2, strict=True):
        expected = trfnb.token_vectors(nlp(text))
        np.testing.assert_allclose(trfnb.token_vectors(doc), expected, atol=1e-5)


def test_a_span_getter_that_fails_goes_to_the_error_handler(tiny, threads):
    nlp = transformer_pipeline(tiny)
    transformer, failed = nlp.get_pipe("transformer"), []

    def one_span_a_doc(docs):
        if any(len(doc) == 2 for doc in docs):
            raise ValueError("no spans of two tokens")
        return [[doc[:]] for doc in docs]

    transformer.model.attrs["get_spans"] = one_span_a_doc
    transformer.set_error_handler(lambda name, pipe, docs, error: failed.append(str(error)))
    found = list(nlp.pipe([TEXTS[0], TEXTS[1]], batch_size=2))
    assert [doc.text for doc in found] == [TEXTS[0]]
    assert failed == ["no spans of two tokens"]


def test_prefetch_works_one_part_ahead_and_errors_come_with_their_part():
    begun = []

    def work(part):
        begun.append(part)
        return 6 // part

    found = []
    for part, result in prefetch(work, [1, 0, 2]):
        try:
            found.append((part, result()))
        except ZeroDivisionError as error:
            found.append((part, type(error).__name__))
    assert found == [(1, 6), (0, "ZeroDivisionError"), (2, 3)]
    assert begun == [1, 0, 2]


def test_prefetch_where_python_starts_no_thread_any_more(monkeypatch):
    class Closed(ThreadPoolExecutor):
        def submit(self, *given):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(component, "ThreadPoolExecutor", Closed)
    assert [result() for _, result in prefetch(lambda part: part, [1, 2])] == [1, 2]
