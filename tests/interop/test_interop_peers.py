"""Files to and from the libraries themselves, where they are installed."""

import importlib.util

import pytest

pytest.importorskip("safetensors")

from interop_round_trip import TOLERANCE, measure

# The libraries import, and warn of, a great deal.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LIBRARIES = {
    "sae-lens": ("sae_lens", 18),
    "dictionary-learning": ("dictionary_learning", 8),
    "eai-sparsify": ("sparsify", 2),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_round_trips(library):
    module, n_cases = LIBRARIES[library]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {library}")
    rows = measure(library)
    assert len(rows) == n_cases
    for row in rows:
        assert row["l0"] > 0
        tolerance = 1e-12 if row["dtype"] == "float64" else TOLERANCE
        assert row["codes"] <= tolerance, row
        assert row["reconstructions"] <= tolerance, row


@pytest.mark.parametrize("kind", ["MatchingPursuit", "Transcoder", "SkipTranscoder"])
def test_what_saelens_has_and_skfeat_has_not(kind, tmp_path):
    saes = pytest.importorskip("sae_lens.saes")
    from skfeat.interop import read_saelens

    suffix = "SAE" if kind == "MatchingPursuit" else ""
    more = {} if suffix else {"d_out": 5, "apply_b_dec_to_input": False}
    config_name = f"{kind}{suffix}Config"
    config = getattr(saes, config_name)(d_in=4, d_sae=8, **more)
    getattr(saes, f"{kind}{suffix}")(config).save_model(tmp_path)
    with pytest.raises(ValueError, match=r"its architecture '[a-z_]+' is none of"):
        read_saelens(tmp_path)


def test_transcoders_of_sparsify(tmp_path):
    sparsify = pytest.importorskip("sparsify")
    from skfeat.interop import read_sparsify

    config = sparsify.SparseCoderConfig(num_latents=8, k=2, transcode=True)
    sparsify.SparseCoder(4, config).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match="it is a transcoder"):
        read_sparsify(tmp_path)
