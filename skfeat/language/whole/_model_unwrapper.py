"""ModelUnwrapper: all MLPs of a language model replaced by connections of features."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from torch import nn

from skfeat._base import CallbackEpochs, SkfeatEstimator
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._transcoder import Transcoder
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.kernels._threads import Team
from skfeat.language.whole._cascade import Cascade, LayerParts, chosen_batches
from skfeat.language.whole._measure import original_means
from skfeat.language.whole._pairs import PairsMixin
from skfeat.language.whole._replaced import ReplacedModelMixin
from skfeat.language.whole._slots import listed_batches
from skfeat.language.whole._train import Settings, train_together
from skfeat.utils._bases import fit_context
from skfeat.utils._frozen import remember_fits, warn_of_refits
from skfeat.utils._ignored import OfEach, ignored_params, warn_of_ignored
from skfeat.utils._progress import progress_of, say, share_of
from skfeat.utils._sklearn import Interval, StrOptions, _clone_parametrized
from skfeat.utils._torch import draw_seeds, with_gradients
from skfeat.utils._warnings import gathered, tell_once

# Parameters that are estimators, or lists of them.
_PARTS = ("input_autoencoder", "output_autoencoder", "connector", "transcoder")
# Updates that max_iter="auto" makes at least.
_AUTO_UPDATES = 1000


class ModelUnwrapper(PairsMixin, ReplacedModelMixin, SkfeatEstimator):
    """Replace all MLPs of a language model by sparse connections between features.

    What an MLP reads is encoded into sparse features, each feature of its output is
    computed from a few of them, and these are decoded in place of the MLP's output, at
    every token. Attention, normalisation and the residual stream stay the model's own.
    Layers are fitted one after another, each on what the model computes with the
    earlier ones replaced, then all are trained together on the model's own next-token
    distribution (of an encoder, on its last states) while weights are pruned to the
    budget.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model of transformers, or any module that takes batches of
        tokens and returns logits; or an encoder, such as ``BertModel``, which returns
        no logits but a `last_hidden_state`. It is never changed. ``None`` is for what
        was loaded from a file, which holds no model.

    modules : str or sequence of str, default=None
        Names of the MLPs to replace: modules that take and return one tensor, a row
        for each token. ``None`` means all modules called "mlp", "ffn" or
        "feed_forward".

    input_autoencoder : SparseAutoencoder, FrozenEstimator, list or None, default=None
        Encodes what an MLP reads; one for all layers, of which each gets a clone, or a
        list of one a layer. A fitted one in a ``sklearn.frozen.FrozenEstimator`` stays
        as it is. ``None`` means ``SparseAutoencoder(k=16)``.

    output_autoencoder : SparseAutoencoder, FrozenEstimator, list or None, default=None
        Its features are computed, and it decodes them. ``None`` as above.

    connector : FeatureConnector, FrozenEstimator, list or None, default=None
        Computes features of the output from those of the input. ``None`` means
        ``FeatureConnector(link="relu")``. With ``joint=True`` its link, `fit_intercept`
        and budget are used alone, as it is trained with all other parts.

    transcoder : Transcoder, FrozenEstimator, list or None, default=None
        Replaces an MLP by a transcoder of its input and output instead. In a list,
        ``None`` leaves a layer to the autoencoders and the connector.

    n_nonzero_coefs : float or None, default=10
        Average number of weights of an output feature that fires. ``None`` leaves the
        budget to the connector.

    shared_budget : bool, default=False
        Let layers share the sum of their budgets when they are trained together.

    joint : bool, default=True
        Train all layers together after the layer-by-layer fit.

    faithfulness : float, default=0.1
        With ``joint=True``, the weight of the squared error of each MLP's computed
        output and of the autoencoders' reconstructions, as shares of variances averaged
        over the layers, beside the KL divergence in nats, or of an encoder the error of
        its last states, a share of their variance.

    n_rows : int, default=200_000
        Tokens that the parts of a layer are fitted to, those of batches drawn at
        random. Training together goes through all batches.

    max_iter : int or "auto", default="auto"
        Number of times that training together goes through all batches; an update takes
        one. "auto" makes at least 1,000 updates.

    learning_rate_init : float, default=4e-3
        Largest learning rate of weights between features when all are trained together;
        that of autoencoders is half of it, that of transcoders a quarter.

    device : str, torch.device or None, default=None
        Where the model's copy runs and all are trained together. ``None`` means where
        the model is.

    random_state : int, RandomState instance or None, default=None
        Seeds the parts whose own `random_state` is None, the choice of rows and the
        order of batches.

    verbose : int, default=0
        1: print how far each part is, with the time left.

    Attributes
    ----------
    module_names_ : list of str
        The replaced MLPs, in the order in which they run.

    input_autoencoders_, output_autoencoders_ : list of SparseAutoencoder or None
        Fitted, one a layer; None where a transcoder replaces the MLP.

    connectors_ : list of FeatureConnector or None
        Fitted, one a layer, between all features of the two autoencoders.

    transcoders_ : list of Transcoder or None
        Fitted, one a layer; None where the three others replace the MLP.

    output_means_ : list of ndarray of shape (d_out,)
        Mean output of each MLP in the model itself.

    loss_curve_ : list of float
        Mean loss of a token in each pass of the training together.

    n_iter_ : int
        Number of these passes.

    See Also
    --------
    LayerPair : Features of the residual stream and of one MLP.
    skfeat.Transcoder : Features that are decoded as they are encoded.

    Notes
    -----
    The two autoencoders of a layer are trained on with all else, but for frozen ones.
    In turn an update feeds each replaced MLP what the replaced model computes, and what
    the model itself does, so that the features stand for the model's in both.

    With ``joint=True`` and a budget, two autoencoders of top-k with as many features,
    neither frozen and the first not tied, are not fitted by themselves: a transcoder
    [2]_ with the parameters of `input_autoencoder` is, and its features start both.
    Each leads from the input to the output by one weight, until rows of the layer have
    taught both to reconstruct what they read. The weights between other autoencoders
    start from a regression, from which few of them do worse.

    References
    ----------
    .. [1] L. Riggs et al., "Finding Sparse Linear Connections between Features in
       LLMs", 2023.
    .. [2] J. Dunefsky, P. Chlenski and N. Nanda, "Transcoders Find Interpretable LLM
       Feature Circuits", NeurIPS 2024.

    Examples
    --------
    >>> import torch
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.language import ModelUnwrapper
    >>> class Block(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mlp = torch.nn.Sequential(
    ...             torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 8)
    ...         )
    ...
    ...     def forward(self, x):
    ...         return x + self.mlp(x)
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Embedding(50, 8), Block(), Block(), torch.nn.Linear(8, 50)
    ... )
    >>> batches = [torch.randint(50, (8, 16)) for _ in range(8)]
    >>> unwrapper = ModelUnwrapper(
    ...     model,
    ...     input_autoencoder=SparseAutoencoder(12, k=4),
    ...     output_autoencoder=SparseAutoencoder(12, k=4),
    ...     n_nonzero_coefs=4,
    ...     max_iter=5,
    ...     random_state=0,
    ... ).fit(batches)
    >>> unwrapper.module_names_
    ['1.mlp', '2.mlp']
    >>> unwrapper.to_torch()(batches[0]).shape
    torch.Size([8, 16, 50])
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "model": [nn.Module, None],
        "modules": [str, "array-like", None],
        "input_autoencoder": [SparseAutoencoder, FrozenEstimator, list, tuple, None],
        "output_autoencoder": [SparseAutoencoder, FrozenEstimator, list, tuple, None],
        "connector": [FeatureConnector, FrozenEstimator, list, tuple, None],
        "transcoder": [Transcoder, FrozenEstimator, list, tuple, None],
        "n_nonzero_coefs": [Interval(Real, 0, None, closed="left"), None],
        "shared_budget": ["boolean"],
        "joint": ["boolean"],
        "faithfulness": [Interval(Real, 0, None, closed="left")],
        "n_rows": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "device": "no_validation",  # resolve_device checks it against this machine
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model=None,
        modules=None,
        *,
        input_autoencoder=None,
        output_autoencoder=None,
        connector=None,
        transcoder=None,
        n_nonzero_coefs=10,
        shared_budget=False,
        joint=True,
        faithfulness=0.1,
        n_rows=200_000,
        max_iter="auto",
        learning_rate_init=4e-3,
        device=None,
        random_state=None,
        verbose=0,
    ):
        self.model = model
        self.modules = modules
        self.input_autoencoder = input_autoencoder
        self.output_autoencoder = output_autoencoder
        self.connector = connector
        self.transcoder = transcoder
        self.n_nonzero_coefs = n_nonzero_coefs
        self.shared_budget = shared_budget
        self.joint = joint
        self.faithfulness = faithfulness
        self.n_rows = n_rows
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    @with_gradients()
    def fit(self, batches: Any, y: Any = None) -> Self:
        """Fit the replacement of every MLP, one by one and then together.

        Parameters
        ----------
        batches : iterable
            Batches of tokens as `skfeat.capture.capture` takes them: dicts of the
            model's arguments, or tensors. They are kept while it runs, and gone
            through several times.
        y : None
            Ignored.

        Returns
        -------
        self : ModelUnwrapper
            The fitted estimator.

        Raises
        ------
        TypeError
            If `batches` is a single batch.
        ValueError
            If a parameter or a batch is not valid, a module does not run exactly once,
            or the model returns neither logits that predict the next token nor, without
            logits, a `last_hidden_state`.

        Warns
        -----
        UserWarning
            If a part is fitted already and not in a ``FrozenEstimator``: it is fitted
            anew.
        """
        data = {"X": batches, "y": None, "metadata": None}
        self._forget()
        slotted = self._slotted(self.modules)
        batches = listed_batches(batches)
        slotted.batch(batches[0], 0).check()
        names = slotted.names
        seeds = draw_seeds(self.random_state, 3 * len(names) + 2)
        parts = self._parts(len(names), seeds)
        warn_of_refits(self, _PARTS)
        self._tell_of_ignored(parts)
        numbers = chosen_batches(slotted, batches, int(self.n_rows), seeds[-1])
        means = original_means(slotted, batches, numbers)
        context = self._init_callback_context(max_subtasks=len(names) + 1)
        context.call_on_fit_task_begin(estimator=self, **data)
        share = share_of(type(self).__name__, self.verbose, 3 * len(names) + 1)
        device = next(iter(slotted.model.parameters())).device
        settings = self._settings(len(batches), seeds[-2]) if self.joint else None
        history: list[float] = []
        with Team() as team:
            cascade = Cascade(slotted, batches, numbers, device, team)
            with gathered() as waiting:
                for name, of_layer in zip(names, parts, strict=True):
                    subcontext = context.subcontext(task_name=name)
                    subcontext.call_on_fit_task_begin(estimator=self, **data)
                    budget = self.n_nonzero_coefs
                    cascade.add(name, of_layer, budget, subcontext, share, settings)
                    subcontext.call_on_fit_task_end(estimator=self, **data)
                    if self.verbose:
                        say(share.owner, "fitted", name)
            n_fits = sum(of_layer.n_fits for of_layer in parts)
            tell_once(waiting, n_fits, "parts")
            if settings is not None:
                history = self._train(cascade, batches, settings, context, data)
                for name, of_layer in zip(names, parts, strict=True):
                    of_layer.take_back(cascade.functions[name], len(history))
        self._store(names, parts, means, history)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def _tell_of_ignored(self, parts: list[LayerParts]) -> None:
        pairs = [part for part in parts if part.transcoder is None]
        free = [part.connector for part in pairs if not part.frozen["connector"]]
        budgets = [self.n_nonzero_coefs or part.n_nonzero_coefs for part in free]
        facts = {
            "pairs": OfEach([part.transcoder is None for part in parts]),
            "budgets": len(free) > 0,
            "shares": sum(budget is not None for budget in budgets) > 1,
        }
        warn_of_ignored(self, ignored_params(self, **facts))

    def _settings(self, n_batches: int, seed: int) -> Settings:
        n_epochs = self.max_iter
        if n_epochs == "auto":
            n_epochs = -(-_AUTO_UPDATES // n_batches)
        return Settings(
            faithfulness=float(self.faithfulness),
            n_epochs=int(n_epochs),
            learning_rate=float(self.learning_rate_init),
            share_budgets=bool(self.shared_budget),
            seed=seed,
        )

    def _train(self, cascade, batches, settings: Settings, context, data):
        """Train all layers together; return the loss of each pass."""
        subcontext = context.subcontext(
            task_name="train", max_subtasks=settings.n_epochs
        )
        subcontext.call_on_fit_task_begin(estimator=self, **data)
        share = share_of(type(self).__name__, self.verbose, 2)
        with progress_of(share, "training together"):
            history = train_together(
                cascade.slotted,
                cascade.functions,
                batches,
                settings,
                name=type(self).__name__,
                hooks=CallbackEpochs(self, subcontext, data, lambda layers: {}),
                verbose=self.verbose,
            )
        subcontext.call_on_fit_task_end(estimator=self, **data)
        return history.losses

    def _parts(self, n_layers: int, seeds: list[int]) -> list[LayerParts]:
        given = {name: getattr(self, name) for name in _PARTS}
        for name, value in given.items():
            if isinstance(value, list | tuple) and len(value) != n_layers:
                raise ValueError(
                    f"The {name!r} parameter must be one estimator or a list of "
                    f"{n_layers}, one for each replaced module. Got {len(value)}."
                )
        return [
            LayerParts(index, seeds[3 * index : 3 * index + 3], given)
            for index in range(n_layers)
        ]

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            del self.__dict__[name]

    def _store(self, names, parts, means: list[np.ndarray], losses: list[float]):
        self.input_autoencoders_, self.output_autoencoders_, self.connectors_ = (
            [getattr(part, name, None) for part in parts]
            for name in ("input_autoencoder", "output_autoencoder", "connector")
        )
        self.transcoders_ = [part.transcoder for part in parts]
        self.output_means_ = means
        self.loss_curve_, self.n_iter_ = losses, len(losses)
        self.module_names_ = list(names)

    def __sklearn_clone__(self):
        return remember_fits(_clone_parametrized(self), self, _PARTS)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_names_")
