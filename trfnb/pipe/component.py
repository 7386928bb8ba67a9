"""The component that runs one transformer for all that listen to it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model

from ..flow.encoder import (
    EncoderShim,
    Layer,
    encoders,
    engine_report,
    set_runtime,
    weights_apart,
)
from ..flow.gradients import LayerGradients
from ..flow.listener import Aligned, TransformerListener
from ..flow.runtime import EngineName, trim_memory
from .data import (
    AnnotationSetter,
    FullTransformerBatch,
    Storage,
    null_annotation_setter,
    store,
)
from .model import Tokenised, encode_docs, set_width, tokenise
from .tok2vec import PipelineRef, SharedComponent, warn_of_unread_table

# A stream is cut so that a batch's hidden states stay small beside the weights.
_TOKENS_A_BATCH = 10_000
# The fewest tokens that are worth a thread of their own.
_TOKENS_A_PART = 1_000
_TRIM_EVERY = 16  # batches, where the user asked for memory that stays flat

Item = TypeVar("Item")
Result = TypeVar("Result")


class Transformer(SharedComponent):
    """Encode docs once, for every component that listens.

    The output is stored on each doc as `doc._.trf_data`.

    Args:
        vocab: The pipeline's vocabulary.
        model: A model of type ``Model[list[Doc], FullTransformerBatch]``.
        annotation_setter: Called with each batch of docs and its `FullTransformerBatch`.
        name: The component's name.
        max_batch_items: The most wordpieces of one forward pass, padding included.
        storage: What stays on docs as `trf_data`: ``"keep"`` everything where it was computed,
            ``"cpu"`` everything in main memory, ``"last"`` the last layer alone, ``"none"``
            nothing once all listeners have read it, so that memory stays flat (a listener that
            is disabled never does; one that reads again has it computed again). May be set at
            any time.
        set_extra_annotations: The annotation setter under its later name; it counts where given.

    Attributes:
        truncated: Docs that were cut because the model reads no more, and their lost wordpieces.
    """

    listeners: Any = SharedComponent.listeners

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], FullTransformerBatch],
        annotation_setter: AnnotationSetter = null_annotation_setter,
        *,
        name: str = "transformer",
        max_batch_items: int = 4096,
        storage: Storage = "keep",
        set_extra_annotations: AnnotationSetter | None = None,
    ) -> None:
        super().__init__(vocab, model, name)
        self.annotation_setter = set_extra_annotations or annotation_setter
        self.max_batch_items = max_batch_items
        self.storage: Storage = storage
        self.truncated = 0, 0
        if not Doc.has_extension("trf_data"):
            Doc.set_extension("trf_data", default=None)

    @property
    def max_batch_items(self) -> int:
        """The most wordpieces of one forward pass; may be set at any time."""
        return self._max_batch_items

    @max_batch_items.setter
    def max_batch_items(self, items: int) -> None:
        if encoders(self.model):  # another's model cuts its batches itself
            set_runtime(self.model, max_batch_items=items)
        self._max_batch_items = items

    @property
    def engine(self) -> EngineName:
        """What runs the encoder where nothing is trained: as on the model, but for this process.

        May be set at any time; a saved pipeline starts with what its config says.
        """
        return cast(EngineName, encoders(self.model, needed=True)[0].attrs["runtime"].engine)

    @engine.setter
    def engine(self, engine: EngineName) -> None:
        set_runtime(self.model, engine=engine)

    @property
    def engine_report(self) -> str:
        """Which engine ran last and, where OpenVINO did not, why."""
        return engine_report(self.model)

    @property
    def set_extra_annotations(self) -> AnnotationSetter:
        """The annotation setter under its later name."""
        return self.annotation_setter

    @set_extra_annotations.setter
    def set_extra_annotations(self, setter: AnnotationSetter) -> None:
        self.annotation_setter = setter

    # Prediction

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Encode a stream of docs, batch by batch; a part is tokenised while another is encoded.

        No doc is drawn from the stream before those of the last batch have been handed on.

        Args:
            stream: Docs.
            batch_size: The most docs of a batch; long docs make smaller ones.
        """
        for number, batch in enumerate(_cut(stream, batch_size, _TOKENS_A_BATCH), start=1):
            if self.storage == "none" and number % _TRIM_EVERY == 0:
                trim_memory()
            for docs, tokenised in self._tokenised(batch):
                try:
                    self.set_annotations(docs, self.predict(docs, tokenised()))
                except Exception as error:
                    self.get_error_handler()(self.name, self, docs, error)
                    continue
                yield from docs

    # Cut a batch in parts, and return each with what returns its wordpieces.
    def _tokenised(
        self, batch: list[Doc]
    ) -> Iterable[tuple[list[Doc], Callable[[], Tokenised | None]]]:
        n_tokens = max(_TOKENS_A_PART, sum(map(len, batch)) // 2)
        parts = list(_cut(batch, len(batch), n_tokens))
        if len(parts) > 1 and self._is_ours and torch.get_num_threads() > 1:
            return prefetch(partial(tokenise, self.model), parts)
        return [(batch, lambda: None)]

    def predict(
        self, docs: Iterable[Doc], tokenised: Tokenised | None = None
    ) -> FullTransformerBatch:
        """Encode a batch of docs, as far up as somebody reads.

        Args:
            docs: The batch.
            tokenised: Its wordpieces, if they are there already.
        """
        self.gradients.take_overdue_step()
        docs = list(docs)
        # A setter, storage "last" and a model of another make may read the last layer.
        quiet = self.annotation_setter is null_annotation_setter and self.storage != "last"
        return self._encode(docs, False, self._layers_read() if quiet else None, tokenised)[0]

    # Run the model; only trfnb's own takes layers and wordpieces.
    def _encode(
        self,
        docs: Sequence[Doc],
        is_train: bool,
        layers: Sequence[Layer] | None,
        tokenised: Tokenised | None = None,
    ) -> tuple[FullTransformerBatch, Any]:
        if self._is_ours:
            return encode_docs(self.model, docs, is_train, layers=layers, tokenised=tokenised)
        return self.model(list(docs), is_train)

    def set_annotations(self, docs: Iterable[Doc], predictions: FullTransformerBatch) -> None:
        """Store each doc's share on `doc._.trf_data` and call the annotation setter."""
        docs = list(docs)
        self.annotation_setter(docs, predictions)
        store(docs, predictions.doc_data, self.storage, len(self.listeners), self.name)
        self._report_truncation(predictions)

    # Count what was cut, and warn the first time.
    def _report_truncation(self, predictions: FullTransformerBatch) -> None:
        if not predictions.wordpieces.truncated.any():
            return
        lost = [int(data.wordpieces.truncated.sum()) for data in predictions.doc_data]
        n_docs, n_pieces = sum(n > 0 for n in lost), sum(lost)
        if not self.truncated[0]:
            warnings.warn(
                f"The transformer {self.name!r} reads fewer wordpieces at once than some texts "
                f"have: {n_pieces} wordpieces of {n_docs} docs were cut in this batch, and their "
                "tokens get zero vectors. Use the span getter trfnb.wordpiece_spans.v1; "
                "`component.truncated` keeps the totals, "
                "`doc._.trf_data.wordpieces.truncated` a doc's.",
                stacklevel=3,
            )
        self.truncated = self.truncated[0] + n_docs, self.truncated[1] + n_pieces

    # What listeners ask for

    def encode_for_update(
        self, docs: Sequence[Doc], is_train: bool
    ) -> tuple[Aligned, Callable[[LayerGradients], Any] | None]:
        """Return outputs for the listeners, and a callback that takes their summed gradient."""
        batch, backprop = self._encode(docs, is_train, self._layers_read())
        return (batch, batch.align), backprop if is_train else None

    def compute(self, docs: Sequence[Doc]) -> list[Aligned]:
        """Return one output a doc, by the weights as they are; nothing is left on the docs."""
        batch, _ = self._encode(docs, False, self._layers_read())
        return [(data, data.row_align) for data in batch.doc_data]

    # Connection and weights

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
    ) -> None:
        """Load the weights, unless they are there, and tell listeners their width."""
        validate_get_examples(get_examples, "Transformer.initialize")
        if nlp is not None:
            self.pipeline = PipelineRef(nlp)
            warn_of_unread_table(nlp, self.name)
        self.model.initialize()
        self._tell_width()

    def find_listeners(self, component: Any) -> None:
        """Connect every listener in a component's model that names this one, or any."""
        model = getattr(component, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if isinstance(node, TransformerListener) and node.upstream_name in ("*", self.name):
                self.add_listener(node, component.name)

    def add_listener(self, listener: Any, component_name: str) -> None:
        """Connect a listener, and keep the layer that it wants."""
        super().add_listener(listener, component_name)
        for node in encoders(self.model):
            node.attrs["layers"] = sorted({*node.attrs["layers"], listener.attrs["layer"]}, key=str)
        self._tell_width()

    # Take the width from the weights, once they are there, and tell it to the listeners.
    def _tell_width(self) -> None:
        if self._is_ours and self._encoders()[0].tokenizer is not None:
            set_width(self.model)
        if self.model.has_dim("nO"):
            n_layers = max((shim.n_layers for shim in self._encoders()), default=0)
            for listener in self.listeners:
                listener.listen_to(self.model.get_dim("nO"), n_layers)

    # Whether the model is trfnb's, which takes wordpieces and layers as arguments.
    @property
    def _is_ours(self) -> bool:
        return self.model.name == "transformer_model"

    # Return the layers that listeners read or the user keeps; None for all that are set.
    def _layers_read(self) -> list[Layer] | None:
        if not self.listeners or not self._is_ours:
            return None
        kept = self.model.attrs.get("kept", [-1])
        return sorted({*kept, *(one.attrs["layer"] for one in self.listeners)}, key=str)

    def _encoders(self) -> list[EncoderShim]:
        return [
            shim
            for node in encoders(self.model)
            for shim in node.shims
            if isinstance(shim, EncoderShim)
        ]

    # On disk

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:
        """Save the component; each encoder becomes a directory that HuggingFace opens too."""
        self.send_back()
        shims = [shim for shim in self._encoders() if shim.tokenizer is not None]
        for i, shim in enumerate(shims if "model" not in exclude else ()):
            shim.save(Path(path) / f"encoder{i or ''}")
        with weights_apart():
            super().to_disk(path, exclude=exclude)

    def from_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> "Transformer":
        """Load what `to_disk` saved."""
        super().from_disk(path, exclude=exclude)
        for i, shim in enumerate(self._encoders() if "model" not in exclude else ()):
            directory = Path(path) / f"encoder{i or ''}"
            if directory.exists() or shim.saved_apart:
                shim.restore(directory)
        self._tell_width()
        return self

    def from_bytes(self, bytes_data: bytes, *, exclude: Sequence[str] = ()) -> "Transformer":
        """Load what `to_bytes` returned."""
        super().from_bytes(bytes_data, exclude=exclude)
        self._tell_width()
        return self


def prefetch(
    work: Callable[[Item], Result], parts: Sequence[Item]
) -> Iterator[tuple[Item, Callable[[], Result]]]:
    """Yield each part with what returns its result; those of the parts after it are made meanwhile.

    The work runs in another thread, in the same context: Thinc keeps its ops in a context variable.

    Args:
        work: What to do ahead; its errors come with the part that they belong to.
        parts: What to do it on.
    """
    with ThreadPoolExecutor(1, "trfnb-prefetch") as thread:
        results: list[Callable[[], Result]] = [partial(work, part) for part in parts]
        with suppress(RuntimeError):  # Python starts no thread any more while it ends
            results = [thread.submit(copy_context().run, work, part).result for part in parts]
        yield from zip(parts, results, strict=True)


# Cut a stream of docs into batches; one that reaches either limit is complete.
def _cut(stream: Iterable[Doc], max_docs: int, max_tokens: int) -> Iterator[list[Doc]]:
    batch: list[Doc] = []
    tokens = 0
    for doc in stream:
        batch.append(doc)
        tokens += len(doc)
        if len(batch) >= max_docs or tokens >= max_tokens:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch
