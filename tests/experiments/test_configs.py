import pytest
import spacy
from spacy.util import load_model_from_config
from thinc.api import Config
from tiny_corpus import SMALL, users_config

from trfnb.experiments.configs import SHARINGS, build_config, peak_rate, with_sharing
from trfnb.experiments.training import initialize, train
from trfnb.experiments.weights import fingerprint

STRIDED = {"@span_getters": "trfnb.strided_spans.v1", "window": 4, "stride": 3}


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize(("encoder", "get_spans"), [("tok2vec", "doc"), ("tiny", STRIDED)])
def test_a_config_is_complete_and_survives_printing(tiny, sharing, encoder, get_spans):
    name = tiny if encoder == "tiny" else encoder
    config = build_config(["tagger", "ner"], name, sharing, get_spans=get_spans)
    again = Config().from_str(config.to_str())
    # auto_fill=False: raises on any missing value, as `spacy train` does
    nlp = load_model_from_config(again, auto_fill=False, validate=True)
    assert nlp.config.interpolate() == config.interpolate()
    assert config["paths"]["train"] is None


def test_the_encoder_sits_beside_the_tasks_or_inside_each():
    shared, alone = (build_config(["tagger", "ner"], sharing=s) for s in ("shared", "independent"))
    assert shared["nlp"]["pipeline"] == ["tok2vec", "tagger", "ner"]
    assert alone["nlp"]["pipeline"] == ["tagger", "ner"]
    listener = shared["components"]["ner"]["model"]["tok2vec"]
    own = alone["components"]["ner"]["model"]["tok2vec"]
    assert listener["upstream"] == "tok2vec"
    assert own == shared["components"]["tok2vec"]["model"]


def test_scores_are_weighed_alike_and_sum_to_one():
    weights = build_config(["tagger", "parser", "textcat", "ner"])["training"]["score_weights"]
    counted = {name: weight for name, weight in weights.items() if weight}
    assert counted == dict.fromkeys(["tag_acc", "dep_las", "cats_macro_f", "ents_f"], 0.25)


def test_encoder_and_heads_have_rates_of_their_own(tiny):
    options = {"learn_rate": 0.004, "encoder_rate": 1e-4, "layer_decay": 0.9}
    optimizer = build_config(["tagger"], tiny, **options)["training"]["optimizer"]
    assert optimizer["learn_rate"] == 0.004
    assert optimizer["encoder_factor"] == pytest.approx(0.025)
    assert (optimizer["layer_decay"], optimizer["layers"]) == (0.9, 3)
    default = build_config(["tagger"], tiny, max_steps=500)["training"]["optimizer"]
    assert (default["learn_rate"]["warmup_steps"], default["learn_rate"]["total_steps"]) == (
        50,
        500,
    )
    assert peak_rate(default["learn_rate"]) == 0.002
    with pytest.raises(ValueError, match="Give its highest value as a number"):
        peak_rate({"@schedules": "cyclic_triangular.v1"})


def test_every_mistake_is_named_at_once():
    with pytest.raises(ValueError, match="Cannot build") as caught:
        build_config(["tagger", "nre"], sharing="both", grad_factor={"parser": 0.5})
    message = str(caught.value)
    for part in ("['nre']", "'both'", "{'parser': 0.5}", "'independent'"):
        assert part in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharing": "frozen", "grad_factor": 0.5}, "nothing to scale"),
        ({"sharing": "independent", "grad_factor": 0.5}, "nothing to scale"),
        ({"sharing": "independent", "balance": "upgrad"}, "nothing to balance"),
        ({"encoder": "some/model", "get_spans": "paragraph"}, "trfnb.paragraph_spans.v1"),
    ],
)
def test_options_out_of_place_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_config(["tagger"], **options)


@pytest.mark.parametrize("encoder", ["tok2vec", "tiny"])
def test_rewriting_a_shared_config_gives_what_build_config_writes(tiny, encoder):
    name = tiny if encoder == "tiny" else encoder
    options = {"max_steps": 10, "grad_factor": 1.0, **SMALL}
    shared = build_config(["tagger", "ner"], name, "shared", **options)
    for sharing in SHARINGS:
        expected = build_config(["tagger", "ner"], name, sharing, **options)
        assert with_sharing(shared, sharing).interpolate() == expected.interpolate()


def test_a_users_config_is_rewritten_for_each_way(corpus):
    given = users_config(morphologizer={}, spancat={"spans_key": "parts"})
    before = given.to_str()
    versions = {sharing: with_sharing(given, sharing) for sharing in SHARINGS}
    assert versions["independent"]["nlp"]["pipeline"] == ["morphologizer", "spancat"]
    own = versions["independent"]["components"]["spancat"]["model"]["tok2vec"]
    assert own == versions["shared"]["components"]["tok2vec"]["model"]
    assert versions["frozen"]["training"]["frozen_components"] == ["tok2vec"]
    assert given.to_str() == before, "the given config stays as it is"
    nlp = initialize(versions["independent"], lambda vocab: corpus.examples("train", vocab))
    assert not any(node.name == "tok2vec-listener" for node in nlp.get_pipe("spancat").model.walk())


def test_a_config_that_cannot_be_compared_says_why():
    with pytest.raises(ValueError, match=r"expected one of \['shared'"):
        with_sharing(users_config(tagger={}), "apart")
    alone = build_config(["tagger"], sharing="independent")
    with pytest.raises(ValueError, match="got none in the pipeline"):
        with_sharing(alone, "shared")
    taken = build_config(["tagger"], sharing="frozen")
    with pytest.raises(ValueError, match=r"\[initialize.before_init\]"):
        with_sharing(taken, "frozen")


@pytest.mark.parametrize("encoder", ["tok2vec", "tiny"])
def test_groups_of_tasks_have_an_encoder_each_and_do_not_meet(tiny, corpus, encoder):
    name = tiny if encoder == "tiny" else encoder
    config = build_config(["tagger", "ner", "textcat"], name, max_steps=8, **SMALL)
    grouped = with_sharing(config, "tagger+textcat | ner")
    assert grouped == with_sharing(config, [["tagger", "textcat"], ["ner"]])
    one, other = ("tok2vec", "tok2vec_2") if encoder == "tok2vec" else (
        "transformer", "transformer_2")  # fmt: skip
    assert grouped["nlp"]["pipeline"] == [one, "tagger", "textcat", other, "ner"]
    nlp = train(grouped, corpus, progress=False).nlp
    listening = {p: list(nlp.get_pipe(p).listener_map) for p in (one, other)}
    assert listening == {one: ["tagger", "textcat"], other: ["ner"]}
    assert fingerprint(nlp, one) != fingerprint(nlp, other)
    text = "Ada left ships in Oslo ."
    doc = nlp(text)
    with nlp.select_pipes(disable=[other, "ner"]):
        alone = nlp(text)
    assert doc.cats == alone.cats
    with nlp.select_pipes(disable=[one, "tagger", "textcat"]):
        assert [e.text for e in nlp(text).ents] == [e.text for e in doc.ents]


def test_groups_rename_an_encoder_wherever_a_users_config_names_it():
    given = users_config(tagger={}, morphologizer={})
    given["components"]["sentencizer"] = {"factory": "sentencizer"}
    given["nlp"]["pipeline"].append("sentencizer")
    given["training"]["annotating_components"] = ["tok2vec", "sentencizer"]
    grouped = with_sharing(given, [["morphologizer"], ["tagger"]])
    assert grouped["nlp"]["pipeline"] == [
        "tok2vec", "morphologizer", "tok2vec_2", "tagger", "sentencizer"]  # fmt: skip
    assert grouped["training"]["annotating_components"] == ["tok2vec", "tok2vec_2", "sentencizer"]
    assert grouped["components"]["tagger"]["model"]["tok2vec"]["upstream"] == "tok2vec_2"
    with pytest.raises(ValueError, match=r"each of \['tagger', 'morphologizer'\] in one group"):
        with_sharing(given, "tagger | ner")
    with pytest.raises(ValueError, match="in one group"):
        with_sharing(given, [])


@pytest.mark.parametrize("sharing", SHARINGS)
def test_word_features_go_with_every_way_and_are_saved(tiny, corpus, tmp_path, sharing):
    config = build_config(["tagger", "ner"], tiny, sharing, word_features=True, max_steps=3)
    nlp = train(config, corpus, progress=False).nlp
    nlp.to_disk(tmp_path)
    docs = [example.predicted for example in corpus.examples("dev", nlp.vocab)]
    again = spacy.load(tmp_path)
    for doc in docs[:5]:
        mine, loaded = nlp(doc.text), again(doc.text)
        assert [t.tag_ for t in mine] == [t.tag_ for t in loaded]
        assert [e.label_ for e in mine.ents] == [e.label_ for e in loaded.ents]
    tok2vec = nlp.get_pipe("ner").model.get_ref("tok2vec")
    assert any("HashEmbed" in node.name or node.name == "hashembed" for node in tok2vec.walk())


def test_what_several_encoders_could_not_start_from_is_refused(tmp_path):
    config = users_config(tagger={})
    config["paths"]["init_tok2vec"] = "pretrained.bin"
    for sharing in ("independent", [["tagger"]]):
        with pytest.raises(ValueError, match="init_tok2vec expected one encoder"):
            with_sharing(config, sharing)
    assert with_sharing(config, "frozen")["initialize"]["before_init"]
    config["components"]["tagger"] = {"source": str(tmp_path)}
    with pytest.raises(ValueError, match="a model of their own, got \\['tagger'\\]"):
        with_sharing(config, "shared")


def test_default_weights_name_the_key_of_the_spans():
    config = users_config(tagger={}, spancat={"spans_key": "names"}, span_finder={"spans_key": "x"})
    weights = with_sharing(config, "shared")["training"]["score_weights"]
    told = {name: weight for name, weight in weights.items() if weight}
    assert told == {"tag_acc": 0.5, "spans_names_f": 0.25, "spans_x_f": 0.25}
    config["training"]["score_weights"] = {"tag_acc": 0.2, "spans_x_f": 0.8}
    kept = with_sharing(config, "shared")["training"]["score_weights"]
    assert kept["spans_x_f"] == pytest.approx(4 * kept["tag_acc"])  # spaCy makes their sum 1
    assert kept["spans_sc_f"] is None
    plain = with_sharing(users_config(spancat={}), "shared")["training"]["score_weights"]
    assert plain["spans_sc_f"] == 1.0
