"""Dictionaries in the files of other libraries, read, and some written.

Each reader returns a fitted :class:`skfeat.SparseAutoencoder`, or a
:class:`skfeat.Transcoder`, that computes the same codes and outputs as the library does
from the same file. Files are read with safetensors or with torch's
``weights_only=True``, so that no code in them runs.
"""

from skfeat.interop._dictionary_learning import read_dictionary_learning
from skfeat.interop._gemma_scope import read_gemma_scope
from skfeat.interop._openai import read_openai
from skfeat.interop._saelens import read_saelens, write_saelens
from skfeat.interop._sparsify import read_sparsify
from skfeat.interop._tied import read_tied
from skfeat.interop._transcoders import (
    read_circuit_tracer,
    read_saelens_transcoder,
    read_sparsify_transcoder,
    write_circuit_tracer,
    write_saelens_transcoder,
)

__all__ = [
    "read_circuit_tracer",
    "read_dictionary_learning",
    "read_gemma_scope",
    "read_openai",
    "read_saelens",
    "read_saelens_transcoder",
    "read_sparsify",
    "read_sparsify_transcoder",
    "read_tied",
    "write_circuit_tracer",
    "write_saelens",
    "write_saelens_transcoder",
]
