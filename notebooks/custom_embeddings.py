"""The guide's two custom embedding layers, in a form that runs.

    python -m spacy train config.cfg --code custom_embeddings.py --initialize.vectors PATH

As printed in the guide, the layers return a Ragged where a component's ``embed`` must return one
array a Doc, and the second one adds a Ragged to a list; Thinc's `add` would put lists behind one
another. Here each ends in `ragged2list`, `added` sums Doc by Doc, and the learned table reads one
column of the features.
"""

from spacy.ml.featureextractor import FeatureExtractor
from spacy.ml.staticvectors import StaticVectors
from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Embed, Model, chain, list2ragged, ragged2list, remap_ids_v2, with_array
from thinc.types import Floats2d

import trfnb.vectors.store  # noqa: F401  registers trfnb.Vectors.v1
from trfnb.vectors.embed import added  # registers trfnb.key2row.v1, too


@registry.architectures("my_example.MyEmbedding.v1")
def MyEmbedding(output_width: int) -> Model[list[Doc], list[Floats2d]]:  # noqa: N802
    """Static vectors alone, projected to ``output_width``."""
    return chain(StaticVectors(nO=output_width), ragged2list())


@registry.architectures("my_example.MyCustomVectors.v1")
def MyCustomVectors(  # noqa: N802
    output_width: int, vector_width: int, embed_rows: int, key2row: dict[int, int]
) -> Model[list[Doc], list[Floats2d]]:
    """Static vectors plus a small learned table of the words in ``key2row``."""
    learned = chain(
        remap_ids_v2(key2row, default=0, column=0),
        Embed(nO=output_width, nV=embed_rows, column=0),
    )
    return added(
        chain(StaticVectors(nO=output_width, nM=vector_width), ragged2list()),
        chain(FeatureExtractor(["ORTH"]), list2ragged(), with_array(learned), ragged2list()),
    )
