"""The model with its MLPs replaced: as a module, measured, and as arrays."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skfeat.inspection._token_text import token_texts
from skfeat.language.whole._feature_mlp import FeatureMLP, Layer
from skfeat.language.whole._goal import NextTokens
from skfeat.language.whole._model_report import ModelReport, make_report
from skfeat.language.whole._prompt_flows import PromptRun, flows_of
from skfeat.language.whole._prompt_graph import PromptGraph
from skfeat.language.whole._slots import (
    SlottedModel,
    find_mlps,
    listed_batches,
    replace_module,
)
from skfeat.utils._checks import (
    check_flag,
    check_int,
    is_int,
    is_real,
    type_error,
    value_error,
)
from skfeat.utils._torch import resolve_device, with_gradients


class ReplacedModelMixin:
    """What a fitted :class:`ModelUnwrapper` does with the model it replaces MLPs of."""

    model: Any
    device: Any
    module_names_: list[str]
    input_autoencoders_: list
    output_autoencoders_: list
    connectors_: list
    transcoders_: list
    output_means_: list[np.ndarray]

    def to_torch(self, modules: Any = None) -> nn.Module:
        """Return a copy of the model that runs on the features.

        Parameters
        ----------
        modules : sequence of str, default=None
            Which of `module_names_` to replace; ``None`` means all.

        Returns
        -------
        torch.nn.Module
            Of the class of the model, in evaluation mode, with a module in place of
            each MLP that computes it from sparse features.

        Raises
        ------
        ValueError
            If there is no model, as after loading, or a name is not one of the
            replaced MLPs.
        """
        check_is_fitted(self)
        chosen = self.module_names_ if modules is None else list(modules)
        if unknown := [name for name in chosen if name not in self.module_names_]:
            raise ValueError(
                f"modules must be names of {self.module_names_}. Got {unknown[0]!r} "
                "instead."
            )
        own = copy.deepcopy(self._model())
        weights = next(iter(own.parameters()))
        for name, layer in zip(self.module_names_, self.layers(), strict=True):
            if name in chosen:
                replace_module(own, name, FeatureMLP(layer).to(weights.device))
        return own.eval()

    def report(self, batches: Any, *, beside: Any = None) -> ModelReport:
        """Measure what replacing the MLPs costs the model, best on held-out text.

        Parameters
        ----------
        batches : iterable
            Batches of tokens.
        beside : dict of str to ModelUnwrapper, default=None
            Other fitted unwrappers of the same model to measure in the same way, such
            as one of transcoders or one of random features, by the names that they
            shall have in the table.

        Returns
        -------
        ModelReport
            What the model loses with the MLPs replaced all at once, each alone and up
            to each, in both protocols, beside their mean and zero: nats of the next
            token, or of an encoder a share of the variance of its last states.

        Raises
        ------
        TypeError
            If `batches` is a single batch, or `beside` is not a dict of ModelUnwrapper.
        ValueError
            If a batch is not valid, or the batches hold nothing to predict.
        """
        check_is_fitted(self)
        others = {} if beside is None else beside
        if not isinstance(others, dict) or not all(
            isinstance(other, ReplacedModelMixin) for other in others.values()
        ):
            raise TypeError(
                f"beside must be a dict of fitted ModelUnwrapper. Got {beside!r} "
                "instead."
            )
        for other in others.values():
            check_is_fitted(other)
            if other.module_names_ != self.module_names_:
                raise ValueError(
                    f"beside must replace the same modules, {self.module_names_}. Got "
                    f"one that replaces {other.module_names_}."
                )
        layers = {"features": self.layers()}
        layers |= {name: other.layers() for name, other in others.items()}
        slotted = self._slotted(self.module_names_)
        return make_report(slotted, listed_batches(batches), layers, self.output_means_)

    @with_gradients()
    def prompt_graph(
        self,
        prompt: Any,
        *,
        position: int = -1,
        token: int | None = None,
        decode: Any = None,
        share: float = 0.8,
        max_nodes: int = 60,
        checks: bool = True,
    ) -> PromptGraph:
        """Return what makes the logit of a predicted token: features, edges and errors.

        The run is that of the model itself: what a replacement misses of its MLP's
        output stands in the graph as an error node [1]_.

        Parameters
        ----------
        prompt : Tensor, array or dict
            Token ids of one sequence, (length,) or (1, length), or a batch of one
            sequence, as ``tokenizer(text, return_tensors="pt")`` gives it.
        position : int, default=-1
            The token whose successor is predicted.
        token : int, default=None
            Whose logit is explained; ``None``: the most probable one.
        decode : tokenizer, callable or sequence of str, default=None
            Tells the texts of tokens; ``None``: their numbers.
        share : float, default=0.8
            Of each kind of node of each layer, the strongest are kept that have this
            share of the magnitudes.
        max_nodes : int, default=60
            Nodes kept at most, the strongest of all.
        checks : bool, default=True
            Set each kept feature to zero in turn and measure what the logit changes by.

        Returns
        -------
        PromptGraph

        Raises
        ------
        TypeError
            If the prompt holds no token ids.
        ValueError
            If another argument is not valid, or the prompt is not one sequence.

        References
        ----------
        .. [1] E. Ameisen et al., "Circuit Tracing: Revealing Computational Graphs in
           Language Models", Transformer Circuits Thread, 2025.
        """
        check_is_fitted(self)
        if not (is_real(share) and 0 < share <= 1):
            raise value_error("share", "a number above 0 and at most 1", share)
        max_nodes = check_int("max_nodes", max_nodes, 1)
        check_flag("checks", checks)
        slotted = self._slotted(self.module_names_)
        batch = slotted.batch(_as_batch(prompt), 0)
        n_sequences, length = batch.ids.shape
        if n_sequences != 1:
            raise ValueError(
                f"prompt must be one sequence. Got {n_sequences} sequences instead."
            )
        if not length:
            raise ValueError("prompt must hold at least one token. Got none instead.")
        if not (is_int(position) and -length <= position < length):
            allowed = f"an int from {-length} to {length - 1}"
            raise value_error("position", allowed, position)
        modules = [FeatureMLP(layer).to(_device_of(slotted)) for layer in self.layers()]
        with torch.no_grad():
            n_tokens = batch.outputs().shape[-1]
        if not isinstance(slotted.goal, NextTokens):
            raise ValueError(
                "prompt_graph needs a model that predicts tokens. Got "
                f"{type(slotted.model).__name__}, which gives last states alone."
            )
        if token is not None:
            token = check_int("token", token, 0, n_tokens - 1)
        run = PromptRun(slotted, batch, modules, int(position) % length, token)
        found = flows_of(run, float(share), max_nodes, checks=checks)
        ids = batch.ids[0].tolist()
        texts = {i: str(i) for i in (*ids, run.token)}
        if decode is not None:
            texts = {
                i: text if isinstance(text, str) else text.decode(errors="replace")
                for i, text in token_texts(decode, (*ids, run.token)).items()
            }
        is_pair = [transcoder is None for transcoder in self.transcoders_]
        return PromptGraph.of_flows(
            found, [texts[i] for i in ids], texts[run.token], is_pair
        )

    def layers(self) -> list[Layer]:
        """Return the arrays of each layer, as the module of `to_torch` runs them.

        Returns
        -------
        list of Layer
        """
        check_is_fitted(self)
        return [
            Layer.of_pair(read, connector, computed)
            if transcoder is None
            else Layer.of_transcoder(transcoder)
            for read, connector, computed, transcoder in zip(
                self.input_autoencoders_,
                self.connectors_,
                self.output_autoencoders_,
                self.transcoders_,
                strict=True,
            )
        ]

    def _model(self) -> nn.Module:
        if self.model is None:
            raise ValueError(
                "model must be the language model that this was fitted to, which no "
                "file holds: use set_params(model=...). Got None instead."
            )
        return self.model

    def _slotted(self, modules: Any) -> SlottedModel:
        model = self._model()
        device = None if self.device is None else resolve_device(self.device)
        names = find_mlps(model) if modules is None else modules
        return SlottedModel(model, names, device)


def _device_of(slotted: SlottedModel) -> torch.device:
    return next(iter(slotted.model.parameters())).device


def _as_batch(prompt: Any) -> Any:
    """Return a prompt as a batch of one sequence."""
    if isinstance(prompt, Mapping):
        return prompt
    try:
        ids = torch.as_tensor(prompt)
    except (TypeError, ValueError, RuntimeError) as error:
        allowed = (
            "token ids of one sequence, such as tokenizer(text).input_ids, or a dict "
            "that holds them as input_ids"
        )
        raise type_error("prompt", allowed, prompt) from error
    return ids[None] if ids.ndim == 1 else ids
