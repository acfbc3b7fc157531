"""Reader of OpenAI's sparse_autoencoder: one state dict in a ``.pt`` file."""

from __future__ import annotations

import os
from typing import Any

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, reading
from skfeat.interop._fitted import NO_K, Weights

_SHAPES = {"pre_bias": "d", "encoder.weight": "md", "latent_bias": "m"}

# Running statistics, and the name of the activation.
_IGNORED = (
    "stats_last_nonzero",
    "latents_activation_frequency",
    "latents_mean_square",
    "activation",
    "activation_state_dict",
)


def read_openai(
    path: str | os.PathLike[str], *, normalized: bool = False, unit_norm: bool = False
) -> SparseAutoencoder:
    """Read an autoencoder of OpenAI's sparse_autoencoder.

    Parameters
    ----------
    path : str or path
        A ``.pt`` file of a state dict; may also be a ``.safetensors`` file of the same
        tensors, whose activation is then ReLU.
    normalized : bool, default=False
        Whether to accept a top-k autoencoder. It normalises each row to mean zero and
        standard deviation one, which a `SparseAutoencoder` does not: the result takes,
        and reconstructs, rows that are already normalised.
    unit_norm : bool, default=False
        Whether to scale the decoder rows to norm one, and the codes by the norms.

    Returns
    -------
    SparseAutoencoder
        Fitted.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the file is damaged, or a `SparseAutoencoder` cannot express what it holds.

    Examples
    --------
    >>> import os, tempfile
    >>> import torch
    >>> from skfeat.interop import read_openai
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "autoencoder.pt")
    ...     torch.save(
    ...         {
    ...             "pre_bias": torch.ones(3),
    ...             "encoder.weight": torch.eye(5, 3),
    ...             "latent_bias": torch.zeros(5),
    ...             "decoder.weight": torch.eye(3, 5),
    ...         },
    ...         path,
    ...     )
    ...     autoencoder = read_openai(path)
    >>> autoencoder.transform([[2.0, 0.5, 1.5]])
    array([[1. , 0. , 0.5, 0. , 0. ]])
    """
    with reading(
        "OpenAI", path, "path", normalized=normalized, unit_norm=unit_norm
    ) as file:
        tensors = Tensors.read(file)
        activation = tensors.values.get("activation", "ReLU")
        if activation not in ("ReLU", "TopK"):
            raise ValueError(
                f"its activation {activation!r} is neither 'ReLU' nor 'TopK', which a "
                "SparseAutoencoder can express"
            )
        k = None
        if activation == "TopK":
            k = _k(tensors.values.get("activation_state_dict"))
            if not normalized:
                raise ValueError(
                    "it normalises each row by itself, which a SparseAutoencoder does "
                    "not; normalise the rows and pass normalized=True"
                )
        is_tied = "decoder.linear.weight" in tensors
        name = "decoder.linear.weight" if is_tied else "decoder.weight"
        arrays = tensors.arrays(
            {**_SHAPES, name: "md" if is_tied else "dm"}, ignored=_IGNORED
        )
        read = Weights(
            encoder=arrays["encoder.weight"],
            decoder=arrays[name] if is_tied else arrays[name].T,
            encoder_bias=arrays["latent_bias"],
            decoder_bias=arrays["pre_bias"],
            subtracts_bias=True,
            activation="relu" if k is None else "topk",
            k=k,
        )
        return read.autoencoder(unit_norm=unit_norm)


def _k(state: Any) -> int:
    if not isinstance(state, dict) or "k" not in state:
        raise ValueError(NO_K)
    if state.get("postact_fn", "ReLU") != "ReLU":
        raise ValueError(
            f"its codes pass through {state['postact_fn']!r}, where a "
            "SparseAutoencoder has 'ReLU'"
        )
    return state["k"]
