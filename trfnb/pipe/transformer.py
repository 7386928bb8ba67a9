"""The component that runs one transformer for all who listen to it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import srsly
import torch
from spacy import util
from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model

from ..flow.encoder import EncoderShim, Layer
from ..flow.engines import trim_memory
from ..flow.listener import TransformerListener, Upstream
from .ahead import one_ahead
from .annotations import (
    AnnotationSetter,
    Storage,
    checked_storage,
    install_extension,
    null_annotation_setter,
    store,
)
from .data import FullTransformerBatch
from .model import Tokenised, encode_docs, set_width, tokenise
from .shared import SharedBody

# A stream is cut so that a batch's hidden states stay small beside the weights, and so that there
# is a next batch to tokenise while the encoder runs.
_TOKENS_A_BATCH = 10_000
_GIVE_BACK_EVERY = 16  # batches, where the user asked for memory that stays flat


class Transformer(SharedBody, TrainablePipe):
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
            is disabled never does).
    """

    listener_type = TransformerListener

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], FullTransformerBatch],
        annotation_setter: AnnotationSetter = null_annotation_setter,
        *,
        name: str = "transformer",
        max_batch_items: int = 4096,
        storage: Storage = "keep",
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.annotation_setter = annotation_setter
        self.listener_map = {}
        self.cfg: dict[str, Any] = {}
        self.max_batch_items = max_batch_items
        self.storage = storage
        self._cut_docs = self._cut_wordpieces = 0
        install_extension()

    @property
    def max_batch_items(self) -> int:
        """The most wordpieces of one forward pass; may be set at any time."""
        return self._max_batch_items

    @max_batch_items.setter
    def max_batch_items(self, items: int) -> None:
        for node in self._encoder_layers():
            node.attrs["runtime"] = replace(node.attrs["runtime"], max_batch_items=items)
        self._max_batch_items = items

    @property
    def storage(self) -> Storage:
        """What stays on docs; may be set at any time."""
        return self._storage

    @storage.setter
    def storage(self, storage: Storage) -> None:
        self._storage: Storage = checked_storage(storage)

    @property
    def set_extra_annotations(self) -> AnnotationSetter:
        """The annotation setter under its later name."""
        return self.annotation_setter

    @set_extra_annotations.setter
    def set_extra_annotations(self, setter: AnnotationSetter) -> None:
        self.annotation_setter = setter

    # -- prediction -------------------------------------------------------------------------

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Encode a stream of docs, batch by batch; the next one is tokenised meanwhile.

        Args:
            stream: Docs.
            batch_size: The most docs of a batch; long docs make smaller ones.
        """
        handle_error = self.get_error_handler()
        batches = _batches(stream, batch_size, _TOKENS_A_BATCH)
        # Whoever asks doc by doc may send the next only after this one's answer.
        ahead = self._tokenised_ahead(batches) if batch_size > 1 else map(_as_it_is, batches)
        for number, (docs, tokenised) in enumerate(ahead, start=1):
            if self.storage == "none" and number % _GIVE_BACK_EVERY == 0:
                trim_memory()
            try:
                self.set_annotations(docs, self.predict(docs, tokenised()))
            except Exception as error:
                handle_error(self.name, self, docs, error)
                continue
            yield from docs

    def _tokenised_ahead(
        self, batches: Iterable[list[Doc]]
    ) -> Iterator[tuple[list[Doc], Callable[[], Tokenised | None]]]:
        """Yield batches with what waits for their wordpieces, where a thread is there for them."""
        if self.model.name != "transformer_model" or torch.get_num_threads() == 1:
            yield from map(_as_it_is, batches)
            return
        for docs, found in one_ahead(partial(tokenise, self.model), batches):
            yield docs, found.result

    def predict(
        self, docs: Iterable[Doc], tokenised: Tokenised | None = None
    ) -> FullTransformerBatch:
        """Encode a batch of docs, as far up as somebody reads."""
        self._take_answered_step()
        docs = docs if isinstance(docs, list) else list(docs)
        return self._encode(docs, False, tokenised=tokenised)[0]

    def _encode(
        self,
        docs: list[Doc],
        is_train: bool,
        update: bool = False,
        tokenised: Tokenised | None = None,
    ) -> tuple[FullTransformerBatch, Any]:
        if self.model.name != "transformer_model":
            return self.model(docs, is_train)
        layers = self._layers_read(update)
        return encode_docs(self.model, docs, is_train, layers=layers, tokenised=tokenised)

    def set_annotations(self, docs: Iterable[Doc], predictions: FullTransformerBatch) -> None:
        """Store each doc's share on `doc._.trf_data` and call the annotation setter."""
        docs = list(docs)
        self.annotation_setter(docs, predictions)
        store(docs, predictions.doc_data, self.storage, len(self.listeners), self.name)
        self._report_truncation(predictions)

    @property
    def truncated(self) -> tuple[int, int]:
        """Docs that were cut because the model reads no more, and their lost wordpieces."""
        return self._cut_docs, self._cut_wordpieces

    def _report_truncation(self, predictions: FullTransformerBatch) -> None:
        """Count what was cut, and warn the first time."""
        if not predictions.wordpieces.truncated.any():
            return
        first_time = not self._cut_docs
        lost = [int(data.wordpieces.truncated.sum()) for data in predictions.doc_data]
        self._cut_docs += sum(n > 0 for n in lost)
        self._cut_wordpieces += sum(lost)
        if first_time:
            docs, pieces = self.truncated
            warnings.warn(
                f"The transformer {self.name!r} reads fewer wordpieces at once than some texts "
                f"have: {pieces} wordpieces of {docs} docs were cut in this batch, and their "
                "tokens get zero vectors. Use the span getter trfnb.wordpiece_spans.v1; "
                "`component.truncated` keeps the totals, "
                "`doc._.trf_data.wordpieces.truncated` a doc's.",
                stacklevel=3,
            )

    # -- training ---------------------------------------------------------------------------

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
    ) -> None:
        """Load the weights, unless they are there, and tell listeners their width."""
        validate_get_examples(get_examples, "Transformer.initialize")
        self.model.initialize()
        self._tell_width()

    def add_listener(self, listener: Any, component_name: str) -> None:
        """Connect a listener, and keep the layer that it wants."""
        super().add_listener(listener, component_name)
        listener.upstream = Upstream(self)
        self._keep_layer(listener.attrs["layer"])
        self._tell_width()

    def _tell_width(self) -> None:
        if self.model.has_dim("nO"):
            n_layers = max((shim.n_layers for shim in self._encoders()), default=0)
            for listener in self.listeners:
                listener.listen_to(self.model.get_dim("nO"), n_layers)

    def _keep_layer(self, layer: Layer) -> None:
        for node in self._encoder_layers():
            node.attrs["layers"] = sorted({*node.attrs["layers"], layer}, key=str)

    def _layers_read(self, update: bool) -> list[Layer] | None:
        """Return the layers that are read: by a listener, or asked to be kept; None for all.

        An annotation setter, storage ``"last"`` and a model of another make may read the last.
        """
        quiet = self.annotation_setter is null_annotation_setter and self.storage != "last"
        if not self.listeners or not (update or quiet):
            return None
        listened = {one.attrs["layer"] for one in self.listeners}
        return sorted({*self.model.attrs.get("kept", [-1]), *listened}, key=str)

    def _begin_update(self, docs: list[Any]) -> tuple[Any, Any]:
        return self._encode(docs, True, update=True)

    def _predict_for_update(self, docs: list[Any]) -> Any:
        return self._encode(docs, False, update=True)[0]

    def _encoder_layers(self) -> list[Model]:
        return [node for node in self.model.walk() if "runtime" in node.attrs]

    def _encoders(self) -> list[EncoderShim]:
        return [
            shim
            for node in self._encoder_layers()
            for shim in node.shims
            if isinstance(shim, EncoderShim)
        ]

    def _restored(self) -> None:
        """Take the width from restored weights."""
        if any(shim.tokenizer is not None for shim in self._encoders()):
            if self._encoder_layers()[0] in self.model.layers:
                set_width(self.model)
            self._tell_width()

    # -- on disk ----------------------------------------------------------------------------

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:
        """Save the component; each encoder becomes a directory that HuggingFace opens too."""
        self.settle()
        encoders = [shim for shim in self._encoders() if shim.tokenizer is not None]

        def save_model(folder: Path) -> None:
            with ExitStack() as stack:
                for i, shim in enumerate(encoders):
                    shim.save(folder.parent / f"encoder{i or ''}")
                    stack.enter_context(shim.stored_aside())
                self.model.to_disk(folder)

        serialize = {
            "cfg": lambda p: srsly.write_json(p, self.cfg),
            "vocab": lambda p: self.vocab.to_disk(p, exclude=exclude),
            "model": save_model,
        }
        util.to_disk(path, serialize, exclude)

    def from_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> "Transformer":
        """Load what `to_disk` saved."""

        def load_model(folder: Path) -> None:
            self.model.from_disk(folder)
            for i, shim in enumerate(self._encoders()):
                directory = folder.parent / f"encoder{i or ''}"
                if directory.exists() or shim.saved_apart:
                    shim.restore(directory)
            self._restored()

        deserialize: dict[str, Any] = {
            "cfg": lambda p: self.cfg.update(srsly.read_json(p)),
            "vocab": lambda p: self.vocab.from_disk(p, exclude=exclude),
            "model": load_model,
        }
        util.from_disk(path, deserialize, exclude)
        return self

    def to_bytes(self, *, exclude: Sequence[str] = ()) -> bytes:
        """Save the component and its encoders in bytes."""
        self.settle()
        return cast(bytes, super().to_bytes(exclude=exclude))

    def from_bytes(self, bytes_data: bytes, *, exclude: Sequence[str] = ()) -> "Transformer":
        """Load what `to_bytes` returned."""
        super().from_bytes(bytes_data, exclude=exclude)
        self._restored()
        return self


def _as_it_is(docs: list[Doc]) -> tuple[list[Doc], Callable[[], None]]:
    return docs, lambda: None


def _batches(stream: Iterable[Doc], max_docs: int, max_tokens: int) -> Iterator[list[Doc]]:
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
