"""Everything that trfnb registers with spaCy, in one import, and the components' factories.

spaCy loads this module through an entry point whenever a pipeline is made, so it must import
neither transformers nor a notebook library.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.pipeline.tok2vec import DEFAULT_TOK2VEC_MODEL
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model
from thinc.types import Floats2d

from . import notebook_side
from .experiments.weights import EncoderAdam  # noqa: F401
from .flow.grad_factor import Policy
from .pipe import component, curated, data, legacy, manifest, tok2vec
from .pipe.architectures import registry as registry
from .pretraining import masking, objectives, text, weights  # noqa: F401
from .vectors import embed, store  # noqa: F401

_TRANSFORMER = """
[transformer]
max_batch_items = 4096
storage = "keep"
set_extra_annotations = null
balance = null
[transformer.annotation_setter]
@annotation_setters = "trfnb.null_annotation_setter.v1"
[transformer.model]
@architectures = "trfnb.TransformerModel.v1"
name = "sentence-transformers/all-MiniLM-L6-v2"
tokenizer_config = {}
transformer_config = {}
precision = "fp32"
engine = "auto"
layers = []
trust_remote_code = false
trainable_layers = null
lora = null
attentions = false
keep_end = true
gradient_checkpointing = false
[transformer.model.get_spans]
@span_getters = "trfnb.doc_spans.v1"
"""


def make_transformer(
    nlp: Language,
    name: str,
    model: Model[list[Doc], data.FullTransformerBatch],
    annotation_setter: data.AnnotationSetter = data.null_annotation_setter,
    max_batch_items: int = 4096,
    storage: data.Storage = "keep",
    set_extra_annotations: data.AnnotationSetter | None = None,
    balance: Policy | None = None,
) -> Pipe:
    """Make a `Transformer` component."""
    pipe = component.Transformer(
        nlp.vocab,
        model,
        annotation_setter,
        name=name,
        max_batch_items=max_batch_items,
        storage=storage,
        set_extra_annotations=set_extra_annotations,
    )
    pipe.balance, pipe.pipeline = balance, tok2vec.PipelineRef(nlp)
    return pipe


def make_tok2vec(
    nlp: Language,
    name: str,
    model: Model[list[Doc], list[Floats2d]],
    balance: Policy | None = None,
) -> Pipe:
    """Make a `Tok2Vec` component."""
    pipe = tok2vec.Tok2Vec(nlp.vocab, model, name)
    pipe.balance, pipe.pipeline = balance, tok2vec.PipelineRef(nlp)
    return pipe


def make_curated(
    nlp: Language,
    name: str,
    model: Model[list[Doc], data.FullTransformerBatch],
    frozen: bool = False,
    all_layer_outputs: bool = False,
) -> Pipe:
    """Make a `Transformer` component of what spacy-curated-transformers saved.

    Args:
        nlp: the pipeline.
        name: the component's.
        model: its model.
        frozen: train nothing of the encoder.
        all_layer_outputs: has no use here: the layers that tasks read are always computed.
    """
    if frozen:
        curated.freeze(model)
    return make_transformer(nlp, name, model)


@registry.readers("trfnb.JoinedCorpus.v1")
def joined_reader(
    sources: dict[str, str],
    split: str = "train",
    tasks: dict[str, list[str]] | None = None,
    exponent: float = 1.0,
    seed: int = 0,
) -> Callable[[Language], list[Example]]:
    """Read a split of joined corpora for ``spacy train``; see `trfnb.corpora.join`."""
    with notebook_side():
        from .corpora import join
    corpus = join(sources, tasks=tasks, exponent=exponent, seed=seed)
    return partial(_examples, corpus, split)


def _examples(corpus: Any, split: str, nlp: Language) -> list[Example]:
    return list(corpus.examples(split, nlp.vocab))


for _function in (manifest.to_disk, manifest.from_disk):
    setattr(Language, _function.__name__, _function)

_names = ["trfnb_transformer"]
if find_spec("spacy_transformers") is None:
    _names.append("transformer")
    legacy.register(legacy.ARCHITECTURES, legacy.NAMES)
if find_spec("spacy_curated_transformers") is None:
    legacy.register(curated.ARCHITECTURES)
    Language.factory(curated.FACTORY, assigns=["doc._.trf_data"], func=make_curated)
for _name in _names:
    Language.factory(
        _name,
        assigns=["doc._.trf_data"],
        default_config=Config().from_str(_TRANSFORMER)["transformer"],
        func=make_transformer,
    )
Language.factory(
    "trfnb_tok2vec",
    assigns=["doc.tensor"],
    default_config={"model": DEFAULT_TOK2VEC_MODEL, "balance": None},
    func=make_tok2vec,
)
