"""A type checker on a user's script finds a misspelt name, and nothing else."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("mypy")

SCRIPT = """
import numpy as np
from sklearn.neural_network import MLPClassifier
from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureUnwrapper,
    SparseAutoencoder,
)
from skfeat.language import LayerPair
from skfeat.network import SparseFeatureNetwork

X, y = np.zeros((9, 3)), np.zeros(9)
unwrapper = FeatureUnwrapper(MLPClassifier()).fit(X)
score: float = unwrapper.score(X, y)
network: SparseFeatureNetwork = unwrapper.network()
logits: np.ndarray = FeatureUnwrapper(None).fit(X).network().predict_raw(X)
network = SparseFeatureNetwork.load("net.npz").compact()
text: str = unwrapper.connectors_[0].formula(0)
scores = unwrapper.report(X, y)["score"]
autoencoder = SparseAutoencoder(8, k=2).partial_fit(X).set_params(k=3).fit(X)
directions: np.ndarray = autoencoder.components_
rows: np.ndarray = autoencoder.set_output(transform="default").inverse_transform(X)
connector = FeatureConnector(n_nonzero_coefs=3).fit(X, X)
predicted: np.ndarray = connector.predict(X)
n_weights: int = connector.coef_.nnz
alphas: np.ndarray = FeatureConnectorCV().fit(X, X).alphas_
pair: LayerPair = LayerPair().fit(X, X)
"""

# Each is one slip in a line that is right otherwise.
SLIPS = {
    "FeatureUnwrapper(None).fit(X).network().predict_rw(X)": "predict_rw",
    "FeatureUnwrapper(None).fitt(X)": "fitt",
    "SparseAutoencoder(8).fit(X).component_": "component_",
    "SparseAutoencoder(n_component=8)": "n_component",
    "FeatureConnector().fit(X, X).formulas(0)": "formulas",
    "unwrapper.score(X, y).upper()": "upper",
    "network.n_weight_": "n_weight_",
    "pair.reports(X, X)": "reports",
}


def check(script, folder):
    """Return the lines of mypy's errors, and its output."""
    path = folder / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--no-error-summary",
            "--hide-error-context",
            "--disable-error-code=import-untyped",
            f"--cache-dir={folder}",
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if ": error:" in line], done


@pytest.mark.slow
def test_misspelt_names_are_found(tmp_path):
    errors, done = check(SCRIPT, tmp_path)
    assert errors == [], done.stdout + done.stderr
    errors, _ = check(SCRIPT + textwrap.dedent("\n".join(SLIPS)), tmp_path)
    first = len(SCRIPT.splitlines()) + 1
    for line, (slip, name) in enumerate(SLIPS.items(), first):
        own = [error for error in errors if f"script.py:{line}:" in error]
        assert len(own) == 1, (slip, errors)
        assert name in own[0]
    assert len(errors) == len(SLIPS)
