"""The unwrapper as a meta-estimator: its parameters and methods."""

from __future__ import annotations

from copy import copy, deepcopy
from numbers import Integral, Real
from os import PathLike
from typing import Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils import (
    ClassifierTags,
    RegressorTags,
    check_array,
    check_consistent_length,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skfeat._base import SkfeatEstimator
from skfeat.adapters import (
    N_COMPARED,
    Steps,
    check_chain,
    check_labels,
    check_rule,
    class_labels,
    infer_task,
    logits_end,
    model_classes,
    model_outputs,
    read_chain,
    without_wrappers,
)
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.chain import Chain
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.controls import fit_controls
from skfeat.metrics._reconstruction import r2
from skfeat.network import SparseFeatureNetwork
from skfeat.network._decide import probabilities
from skfeat.rows._store import spooled
from skfeat.unwrapper._explain import ExplainedRows
from skfeat.unwrapper._explore import Explored
from skfeat.unwrapper._feature_names import LayerFeatures
from skfeat.unwrapper._fit import prepare, run
from skfeat.unwrapper._parts import (
    as_numpy,
    check_model_columns,
    check_values,
    to_logits,
)
from skfeat.unwrapper._report import Report, make_report
from skfeat.unwrapper._start import StartsLater, ends_in_classes
from skfeat.utils._bases import TransformerMixin, fit_context
from skfeat.utils._decision import DecisionRule
from skfeat.utils._finite import cast_rows
from skfeat.utils._frozen import remember_fits
from skfeat.utils._names import INPUT_PREFIX, Numbered, column_names
from skfeat.utils._rows import is_plain_table
from skfeat.utils._sklearn import (
    Interval,
    StrOptions,
    _clone_parametrized,
    _VisualBlock,
)
from skfeat.utils._workers import N_JOBS

# Attributes that fits set; not every fit sets all.
_FITTED = (
    "autoencoders_",
    "connectors_",
    "input_connector_",
    "output_connector_",
    "layer_names_",
    "classes_",
    "heads_",
    "n_iter_",
    "loss_curve_",
    "pruning_epochs_",
    "n_features_in_",
    "feature_names_in_",
    "input_names_",
    "_steps",
    "_start",
    "_input_shape",
    "_n_axes",
    "_rule",
    "_chain",
    "_means",
    "_undistilled",
    "_network",
)


class FeatureUnwrapper(
    ExplainedRows,
    Explored,
    LayerFeatures,
    StartsLater,
    TransformerMixin,
    SkfeatEstimator,
):
    """Turn a fitted network into a sparse network of interpretable features.

    The activations of each hidden layer are unwrapped into sparse features by a
    :class:`SparseAutoencoder`; a :class:`FeatureConnector` then computes each layer's
    features from those of the layer before, by few weights. The first features are
    encoded from the model's own first layer, the last are decoded into its output
    layer; everything between runs through features alone.

    Autoencoders are first fitted to their layers alone. Then all parts are trained
    together: the network is to give the model's own outputs, each autoencoder to
    reconstruct its layer, and what the network computes to be what the autoencoders
    encode. Meanwhile the weights that cost least are pruned, down to the budgets. Of
    the many dictionaries that reconstruct a layer equally well, this finds one whose
    features are computed from the layer before by few weights.

    The model is never modified, and labels are not needed.

    Parameters
    ----------
    model : torch.nn.Module, skorch net, MLPClassifier, MLPRegressor or Pipeline
        A fitted chain of layers and residual blocks: linear layers, convolutions of
        one or two axes with average and max pooling, elementwise
        activations, dropout, batch, layer and RMS normalisation, in any nesting and
        with any skips. What several heads return is unwrapped side by side, as values.
        Of a fitted Pipeline that ends in one, the steps before are applied to X, and
        the network starts from what they make of it. A search is taken for its
        ``best_estimator_``; a net or classifier with a decision threshold of its own
        (skorch's NeuralNetBinaryClassifier, scikit-learn's FixedThresholdClassifier and
        TunedThresholdClassifierCV) decides by it here too.
        An object with a method ``__skfeat_chain__(n_features)`` that returns a
        `skfeat.chain.Chain` works too. Of any other torch model, such as a
        transformer, the part after a module can be unwrapped: see `start`.
        Of a convolutional model, features are of the channels of a position, and
        connectors, which read patches of positions, are the same at every position:
        budgets count a weight once.

    autoencoder : SparseAutoencoder, FrozenEstimator, list of these or None, \
            default=None
        Cloned for each unwrapped layer, or one for each. ``None`` means
        ``SparseAutoencoder(k=min(32, d / 2))`` for a layer of d units. A fitted
        autoencoder, of skfeat or read from another library (see
        :mod:`skfeat.interop`), is used as it is and never trained if it is wrapped in
        a ``sklearn.frozen.FrozenEstimator``.

    connector : FeatureConnector, FrozenEstimator, list of these or None, default=None
        Cloned for each pair of unwrapped layers, or one for each. ``None`` means a
        default connector with a budget of four weights an output feature. Of a
        connector with a budget, training together reads `link`, `fit_intercept` and
        `init` alone. A fitted
        connector in a ``FrozenEstimator`` is used as it is; no budget applies to it.

    layers : list of str or None, default=None
        Names of the hidden layers to unwrap: the names of the model's linear modules,
        or of the activation modules after them; of a residual block, the name of its
        module is that of the sum at its end. ``None`` means all. In any order, unless
        another parameter is a list that goes with them: then in the model's. A
        layer can be unwrapped only if everything after it depends on the input through
        it alone, which is not so inside a residual block or one of several heads.

    n_nonzero_coefs : int, list of int or None, default=None
        Budget of nonzero weights for each connector, a list with those of the ends
        first and last where these are connected. ``None`` leaves it to the connectors.
        A single unwrapped layer has none but at connected ends.

    shared_budget : bool, default=False
        Take the sum of the budgets as that of the whole network: distillation, which
        it needs, shares it among the connectors where it helps most.

    connect_input : bool, default=False
        Compute the first features from the model's inputs by a connector, in place of
        the model's first layers and the encoder: the network is sparse from its inputs
        on.

    connect_output : bool, default=False
        Compute the outputs (the logits of a classifier) from the last features by a
        linear connector, in place of the decoder and the model's last layers.

    distill : bool, default=True
        Train the whole network on the model's own outputs after the layer-by-layer
        fit, and prune it to its budgets meanwhile. What is in a ``FrozenEstimator``
        stays as it is: the others are trained to work with it. ``False`` leaves
        autoencoders as they were fitted, and each connector as it was fitted to
        compute their features.

    joint : bool, default=True
        Train autoencoders and connectors together. Connectors with a budget then start
        dense, from a ridge regression on the encoded features; those without one are
        fitted first, and keep the weights that their alpha leaves. An autoencoder of
        ``max_iter="auto"`` first makes no more than 100 epochs.
        ``False`` trains the connectors alone, and the last decoder, with the
        autoencoders as they were fitted: their features stay what they are without any
        connector, but many are computed badly where weights are few.

    faithfulness : float, default=0.1
        Weight of the error of the computed features (a share of the variance of those
        that the autoencoders encode) beside the mismatch of the outputs. More makes
        the network's features those of the autoencoders more closely, and its outputs
        those of the model less where weights are few. The error of reconstruction
        counts three times as much, and 0.3 at least. 1 is for features that are active
        in few rows, where true connections matter more than outputs: it finds more of
        known circuits than the default. Zero is for the outputs alone: features and
        what the autoencoders mean by them drift apart. Unless it is zero, weights
        between features are chosen again once pruning has ended, as a rectified
        connector fitted to encoded features has them, where features are on in few
        rows and that fit is short. A twentieth of the epochs is then trained with
        either, and the new ones stay if they lower the loss by more than 5 %.

    mixup : float, default=0.5
        Share of the rows of each minibatch that are mixed with others when all parts
        are trained together: of each 50 to 100 %, drawn evenly, are left, the rest is
        of another row [1]_. The model tells what becomes of them [2]_, so that the
        network learns what it does between the rows too. With few rows this matters
        most. Zero trains on the rows as they are, which is better where the model is
        meant for no inputs between them, as one that divides by its inputs is not.
        Where the model's values of mixtures are not finite, or four times as large as
        those of any row, no rows are mixed, and a warning says so.

    train_encoder : bool, default=True
        Whether what follows the first layer moves its encoder, with ``joint=True``.
        That encoder is dense, and its weights are in no budget: it takes over
        computation. ``False`` leaves it to the reconstruction of its layer alone.

    start : str or None, default=None
        Name of the module of a torch model, or of a skorch net's, with which what is
        unwrapped begins, such as the first linear module of a classifier's head. What
        is before it may be anything: it runs as it is, on the model's device, and is
        never trained. X is then what the model takes: rows, images (n, channels,
        height, width), tokens (n, length) or a dict of its named arguments. The module
        must be fed rows, and all that follows must depend on X through these: they are
        the inputs of the network. ``None`` unwraps the whole model.

    input_shape : tuple of int or None, default=None
        Of a convolutional model that is given rows: the shape of an input, (channels,
        height, width) or (channels, time). ``None`` takes that of X where X has more
        than two axes.

    task : {"auto", "classification", "regression"}, default="auto"
        "auto" reads it from the model: from the tags of scikit-learn and skorch; a
        torch module classifies if it ends in a softmax or a sigmoid, or has several
        outputs in a single head.

    n_jobs : int or None, default=None
        Number of autoencoders fitted at once, by joblib's workers. ``None`` means one,
        or the number set by `joblib.parallel_config`; small ones then share the
        threads that torch may use, which changes no result.

    batch_size : int or "auto", default="auto"
        Rows of a minibatch in the training of the whole network. "auto" takes 512; if
        `joint`, a third of the rows where that is less, but at least 64.

    max_iter : int or "auto", default="auto"
        Number of epochs of that training at most. "auto" plans as many as make 1,500
        updates of the weights, at least 3 and at most 200.

    tol : float, default=1e-3
        That training ends when, after its pruning, a tenth of the planned epochs (at
        least 5) together lower the loss by less than this share.

    device : str, torch.device or None, default=None
        Where that training runs. ``None`` means the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds the autoencoders, the connectors and the training of the whole network.

    checkpoint : str or path, default=None
        A folder, made where there is none, from which `fit` goes on where it was
        stopped, in whatever way: the result is that of a fit that was not, on the CPU
        to the bit. Each autoencoder has a ``.safetensors`` file of its own there,
        unless it names another, and one more has the rest. They are written about every
        minute, when a part is finished, at the end and at Ctrl-C. Of what is not kept,
        distillation with ``joint=False`` and the training together of a convolutional
        model, only the autoencoders and connectors before it are. The folder may serve
        several fits: those of other rows, models or parameters have other files. It
        needs a `random_state`, and the extra ``interop``; not possible in a process
        group.

    verbose : int, default=0
        1: print how far each part is and the training of the whole network, with the
        time left, and a line for each part that is fitted on its own: some thirty lines
        in all. Above: a line for each epoch of the whole network.

    Attributes
    ----------
    autoencoders_ : list of SparseAutoencoder
        One for each unwrapped layer, as trained together with the connectors; of a
        frozen one a copy that shares its arrays, and calls its features what the
        network does. With ``joint=False`` they are as fitted to their layers, but for
        the decoder of the last, which distillation has trained unless it is frozen.

    connectors_ : list of FeatureConnector
        Fitted, one for each pair of consecutive unwrapped layers. Trained together
        with the autoencoders, they have an `alpha_` of 0 and a `dual_gap_` of nan.

    input_connector_ : FeatureConnector
        From the inputs to the first features; only with `connect_input`.

    output_connector_ : FeatureConnector
        From the last features to the outputs; only with `connect_output`.

    layer_names_ : list of str
        Names of the unwrapped layers, first to last.

    classes_ : ndarray of shape (n_classes,)
        Labels; only of a classifier.

    heads_ : dict of str to slice
        Columns of each output of the model in what `predict` returns; only of a model
        that returns several tensors.

    n_iter_ : int
        Epochs of the training of the whole network.

    loss_curve_ : list of float
        Mean loss of each of these epochs.

    pruning_epochs_ : tuple of two floats
        Between which of them weights were pruned, until the budgets were met; only
        with ``joint=True`` and a budget.

    n_features_in_ : int
        Number of inputs of the model: of a Pipeline, of its first step; of images all
        their values, with `start` their channels. There is none of a dict.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the inputs, when X has string column names.

    input_names_ : list of str
        Names of the network's inputs, when there are any: `feature_names_in_`, or of a
        Pipeline those of the columns that its steps make of these ("x0", "x1" and so
        on where a step does not tell).

    See Also
    --------
    SparseAutoencoder : Unwraps one layer.
    FeatureConnector : Connects two layers.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. Dauphin and D. Lopez-Paz, "mixup: Beyond empirical
       risk minimization", ICLR, 2018.
    .. [2] L. Beyer, X. Zhai, A. Royer, L. Markeeva, R. Anil and A. Kolesnikov,
       "Knowledge distillation: A good teacher is patient and consistent", CVPR, 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> mlp = MLPClassifier((32, 32), max_iter=60, tol=0.01, random_state=0).fit(X, y)
    >>> unwrapper = FeatureUnwrapper(mlp, random_state=0).fit(X)
    >>> bool(unwrapper.score(X, y) > mlp.score(X, y) - 0.05)
    True
    >>> unwrapper.network().n_weights_
    [512]
    """

    autoencoders_: list[SparseAutoencoder]
    connectors_: list[FeatureConnector]
    input_connector_: FeatureConnector
    output_connector_: FeatureConnector
    classes_: np.ndarray
    heads_: dict[str, slice]
    n_iter_: int
    loss_curve_: list[float]
    input_names_: list[str]
    _network: SparseFeatureNetwork
    _chain: Chain
    _steps: Steps
    _start: str | None = None
    _rule: DecisionRule | None

    _parameter_constraints: dict = {  # noqa: RUF012
        "model": "no_validation",  # read_chain checks it
        "autoencoder": [SparseAutoencoder, FrozenEstimator, list, tuple, None],
        "connector": [FeatureConnector, FrozenEstimator, list, tuple, None],
        "layers": [list, tuple, np.ndarray, None],
        "n_nonzero_coefs": [
            Interval(Integral, 0, None, closed="left"),
            list,
            tuple,
            np.ndarray,
            None,
        ],
        "shared_budget": ["boolean"],
        "connect_input": ["boolean"],
        "connect_output": ["boolean"],
        "distill": ["boolean"],
        "joint": ["boolean"],
        "faithfulness": [Interval(Real, 0, None, closed="left")],
        "mixup": [Interval(Real, 0, 1, closed="both")],
        "train_encoder": ["boolean"],
        "start": [str, None],
        "input_shape": [list, tuple, np.ndarray, None],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "n_jobs": N_JOBS,
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "max_iter": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "tol": [Interval(Real, 0, None, closed="left")],
        "device": "no_validation",  # resolve_device checks it
        "random_state": ["random_state"],
        "checkpoint": [str, PathLike, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model,
        *,
        autoencoder=None,
        connector=None,
        layers=None,
        n_nonzero_coefs=None,
        shared_budget=False,
        connect_input=False,
        connect_output=False,
        distill=True,
        joint=True,
        faithfulness=0.1,
        mixup=0.5,
        train_encoder=True,
        start=None,
        input_shape=None,
        task="auto",
        n_jobs=None,
        batch_size="auto",
        max_iter="auto",
        tol=1e-3,
        device=None,
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.model = model
        self.autoencoder = autoencoder
        self.connector = connector
        self.layers = layers
        self.n_nonzero_coefs = n_nonzero_coefs
        self.shared_budget = shared_budget
        self.connect_input = connect_input
        self.connect_output = connect_output
        self.distill = distill
        self.joint = joint
        self.faithfulness = faithfulness
        self.mixup = mixup
        self.train_encoder = train_encoder
        self.start = start
        self.input_shape = input_shape
        self.task = task
        self.n_jobs = n_jobs
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None) -> Self:
        """Unwrap the model on rows of its input.

        Parameters
        ----------
        X : array-like of shape (n, n_features) or (n, channels, ...), or iterator
            Inputs of the model; maps for a convolutional one. A mapped file of rows,
            as ``np.load(path, mmap_mode="r")`` gives it, is read batch by batch in
            memory that does not grow with it, and what the model computes of a batch
            is computed when it is needed; but with `start`, and of a convolutional
            model, all rows are held. Connectors without a budget, and all with
            ``joint=False``, are fitted to as many of its rows as 256 MiB hold with
            their features. An iterator of batches of rows, such as a DataLoader or what
            :func:`skfeat.rows.iter_rows` returns, is written to a temporary file first.
        y : array-like of shape (n,), default=None
            Labels; never fitted to. Those of a classifier set `classes_`; of one with
            classes of its own they are those, or their numbers from 0 on, as
            ``cross_val_predict`` and ensembles pass them.

        Returns
        -------
        self : FeatureUnwrapper
            The fitted estimator.

        Raises
        ------
        TypeError
            If the model is not one that can be unwrapped.
        ValueError
            If a parameter or X does not fit the model, as a data frame does not that
            has other columns, or in another order, than the one the model was fitted
            on; or if a file of `checkpoint` is damaged. A fit that is refused before it
            trains leaves the one before as it was; one that fails later, nothing.
        OSError
            If `checkpoint` cannot be written, or is in use by the same fit elsewhere.
        ImportError
            If `checkpoint` is set and safetensors is not installed.

        Warns
        -----
        UserWarning
            If a part is fitted already and not in a ``FrozenEstimator``: it is fitted
            anew. If no rows are mixed though `mixup` is not zero.
        """
        data = {"X": X, "y": y, "metadata": None}
        before = self._without_fit()
        try:
            X, job = self._checked(X, y)
        except BaseException:
            self._without_fit()
            self.__dict__.update(before)
            raise
        del before  # frees its memory before training
        try:
            context = self._init_callback_context(max_subtasks=job.n_tasks)
            context.call_on_fit_task_begin(estimator=self, **data)
            for name, value in run(job, X, context, data).items():
                setattr(self, name, value)
        except BaseException:
            self._without_fit()
            raise
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def _without_fit(self) -> dict:
        """Take the fitted attributes off, and return them."""
        own = self.__dict__
        return {name: own.pop(name) for name in _FITTED if name in own}

    def _checked(self, X, y):
        """Return the rows and the fit to be run on them, or say what is wrong."""
        network, self._steps, self._rule = without_wrappers(self.model)
        self._start = self.start
        if self._start is not None:
            X, chain = self._read_part(X, y)
            X = cast_rows(X, chain.dtype)
            return X, self._prepared(network, chain, y)
        X = spooled(X)
        self._note_shape(X, network)
        if not self._starts_later:  # else the steps check X
            check_model_columns((self.model, network), column_names(X))
        check_consistent_length(X, y)
        on_disk = is_plain_table(X)
        # Of a mapped file some rows tell all but whether the others are finite, which
        # the one pass over it tells that measures what the model computes.
        rows = self._rows(X[:N_COMPARED] if on_disk else X, reset=True)
        chain = read_chain(network, rows.shape[1], self._input_shape)
        if on_disk and chain.has_maps:
            on_disk, rows = False, self._rows(X, reset=True)
        rows = cast_rows(rows, chain.dtype)
        check_chain(chain, network, rows, self._input_shape)
        return X if on_disk else rows, self._prepared(network, chain, y)

    def _prepared(self, network, chain, y):
        """Return the fit to be run, or say what is wrong."""
        classes = None
        task = self.task
        if task == "auto":
            # What is before a start, or the shape of maps, only the chain tells.
            is_rows = self._start is None and self._input_shape is None
            task = infer_task(self.model, None if is_rows else chain)
        if task == "classification":
            check_rule(network, chain.steps[-1].kind == "sigmoid")
            classes = class_labels(y, chain, model_classes(self.model))
        else:
            check_values(y, chain)
        return prepare(self, chain, classes)

    def predict(self, X) -> np.ndarray:
        """Predict with the network of features.

        The label is that of the most likely class, or follows the decision threshold of
        a model that has one.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            Labels of a classifier, values of a regressor.
        """
        return self._decide(self._outputs(X))

    @available_if(lambda self: self._classifies())
    def predict_proba(self, X) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model.

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        return probabilities(self._outputs(X))

    @available_if(lambda self: self._classifies())
    def decision_function(self, X) -> np.ndarray:
        """Compute the logits of the classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model.

        Returns
        -------
        ndarray of shape (n, n_classes) or (n,)
            One column for two classes: the second's logit less the first's.
        """
        logits = self._outputs(X)
        if logits.shape[1] == 2:
            return logits[:, 1] - logits[:, 0]
        return logits.ravel() if logits.shape[1] == 1 else logits

    def score(self, X, y=None) -> float:
        """Score the network on rows: against labels, or against the model itself.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model.
        y : array-like of shape (n,), default=None
            Labels or values. ``None`` compares with the model's own predictions.

        Returns
        -------
        float
            Accuracy of a classifier, R2 of a regressor.
        """
        outputs = self._outputs(X)
        y = self._decide(self._model_outputs(X)) if y is None else self._targets(y)
        metric = accuracy_score if self._classifies() else r2
        return float(metric(y, self._decide(outputs)))

    def report(self, X, y=None, *, controls=False, X_train=None) -> Report:
        """Measure what the unwrapping kept, layer by layer and for the whole.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model, best those it was not unwrapped on.
        y : array-like of shape (n,), default=None
            Labels or values; ``None`` scores against the model's own predictions.
        controls : bool or dict of str to network, default=False
            True fits all controls of :mod:`skfeat.controls`, to as many weights, and
            shows them beside the network. A dict has the names and networks of those to
            be shown, as :func:`skfeat.controls.fit_controls` returns it.
        X_train : array-like of shape (n_train, n_features), default=None
            Rows to fit the controls on, with ``controls=True``: best those that the
            unwrapper was fitted on, which it does not keep.

        Returns
        -------
        Report
            A Bunch of columns that ``pandas.DataFrame`` takes and that prints as a
            table; see :class:`skfeat.unwrapper.Report` for its columns. The row of
            the last layer is of its autoencoder as fitted, before distillation moved
            the decoder: ``distill=False`` with the same `random_state`, an int, gives
            it.

        Raises
        ------
        ValueError
            If controls are to be fitted, and there is no `X_train` or no connector.
        """
        rows = self._validate(X)
        if isinstance(controls, bool | np.bool_):
            if controls and X_train is None:
                raise ValueError(
                    "controls=True needs X_train, the rows to fit the controls on; "
                    "pass those that the unwrapper was fitted on."
                )
            controls = (
                fit_controls(self, X_train, random_state=self.random_state)
                if controls
                else None
            )
        model = self._model_outputs(X)
        labels = self._decide(model) if y is None else self._targets(y)
        return make_report(self, rows, model, labels, controls)

    def _targets(self, y) -> np.ndarray:
        """Return the labels or values of rows to score, or say what is wrong."""
        if self._classifies():
            return check_labels(y, self.classes_)
        check_values(y, self._chain)
        return np.asarray(as_numpy(y, "y"))

    def network(self) -> SparseFeatureNetwork:
        """Return the fitted network, which needs only numpy and scipy to predict.

        The network of a Pipeline starts where the model's own does, after the steps
        before it, and that of a part of a model where the part does: give it, its file
        and its ONNX graph the rows of :meth:`network_inputs`. What its ONNX graph gives
        are logits, to which the model's decision threshold, if it has one, is still to
        be applied; its own `predict` has applied it.

        Returns
        -------
        SparseFeatureNetwork
        """
        check_is_fitted(self)
        return self._network

    def network_inputs(self, X) -> np.ndarray:
        """Make the rows that the network takes: X after all that is before it.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model.

        Returns
        -------
        ndarray of shape (n, n_inputs)
            X itself, in the network's dtype, if the model is no Pipeline and is
            unwrapped whole. Else what the steps of the Pipeline make of it, with the
            columns of `input_names_`, or what the module `start` is fed.
        """
        return self._validate(X)

    def set_params(self, **params) -> Self:
        """Set parameters, also those of a nested estimator as ``autoencoder__k``.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : FeatureUnwrapper

        Raises
        ------
        ValueError
            If a nested parameter is set where there is no estimator to hold it.
        """
        for name in params:
            part = name.partition("__")[0]
            if (
                "__" in name
                and part in ("autoencoder", "connector")
                and not hasattr(params.get(part, getattr(self, part)), "set_params")
            ):
                kind = "a SparseAutoencoder" if part[0] == "a" else "a FeatureConnector"
                raise ValueError(
                    f"Cannot set {name!r}: the {part!r} parameter is "
                    f"{getattr(self, part)!r}; pass {kind} to FeatureUnwrapper first."
                )
        return super().set_params(**params)

    def __sklearn_clone__(self):
        shell = copy(self)
        shell.model = None
        cloned = _clone_parametrized(shell)
        try:
            # Not by clone, which would forget the fit of a scikit-learn or skorch one.
            frozen = isinstance(self.model, FrozenEstimator)
            cloned.model = self.model if frozen else deepcopy(self.model)
        except RuntimeError as error:
            if "deepcopy" not in str(error):
                raise
            raise RuntimeError(
                "clone copies the model, and this one cannot be copied: it keeps a "
                "tensor that is part of an autograd graph, such as an activation "
                "stored on a module during forward. Delete it or store "
                "tensor.detach()."
            ) from error
        return remember_fits(cloned, self, ("autoencoder", "connector"))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_network")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # The dtype of the features is that of the model.
        tags.transformer_tags.preserves_dtype = []
        # Not through the mixins: they would require y, and fit needs none. How well
        # it scores on the y of a check is the model's affair.
        if self._classifies():
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags(poor_score=True)
        else:
            tags.estimator_type = "regressor"
            tags.regressor_tags = RegressorTags(poor_score=True)
        return tags

    def _sk_visual_block_(self):
        parts = {
            "autoencoder": self.autoencoder,
            "connector": self.connector,
        }
        defaults = {"autoencoder": SparseAutoencoder, "connector": FeatureConnector}
        parts = {
            name: defaults[name]() if part is None else part
            for name, part in parts.items()
            if part is None or hasattr(part, "get_params")
        }
        return _VisualBlock(
            "parallel",
            list(parts.values()),
            names=list(parts),
            name_details=[str(part) for part in parts.values()],
            dash_wrapped=True,
        )

    @property
    def _starts_later(self) -> bool:
        """Whether anything comes before the network."""
        return bool(self._steps.steps) or self._start is not None

    @property
    def _n_features_out(self):
        return self._network.n_components_[-1]

    def _classifies(self) -> bool:
        if self.__sklearn_is_fitted__():
            return hasattr(self, "classes_")
        # Also asked before fit has validated the parameters: they may be anything.
        if isinstance(self.task, str) and self.task != "auto":
            return self.task == "classification"
        task = infer_task(self.model)
        if task is None and self.start is not None:
            return ends_in_classes(self.model)
        return task == "classification"

    def _validate(self, X):
        """Return rows as the network takes them."""
        check_is_fitted(self)
        return cast_rows(self._rows(X, reset=False), self._chain.dtype)

    def _rows(self, X, reset) -> np.ndarray:
        """Check X, and apply what is before the network."""
        if self._start is not None:
            return self._run_model(X).rows
        dtype = [np.float64, np.float32]
        if not self._starts_later:
            X = self._flat(X)
            X = validate_data(self, as_numpy(X), dtype=dtype, reset=reset)
            if reset and hasattr(self, "feature_names_in_"):
                self.input_names_ = list(self.feature_names_in_)
            return X
        # Its columns may hold anything that the steps take, such as text.
        X = validate_data(self, as_numpy(X), skip_check_array=True, reset=reset)
        X, names = self._steps.transform(X)
        X = check_array(X, dtype=dtype, input_name="X after the Pipeline's steps")
        if reset:
            check_model_columns((without_wrappers(self.model).network,), names)
            self.input_names_ = names or list(Numbered(INPUT_PREFIX, X.shape[1]))
        return X

    def _outputs(self, X):
        X = self._validate(X)
        return self._network.predict_raw(X)

    def _model_outputs(self, X):
        """Run the model itself, and return its logits or values."""
        if self._start is None:
            outputs = model_outputs(
                self.model, self._validate(X), input_shape=self._input_shape
            )
        else:
            check_is_fitted(self)
            outputs = self._run_model(X).outputs
        return to_logits(outputs, self._chain) if self._classifies() else outputs

    def _model_values(self, X):
        """Compute the model's own logits or values, of rows that the network took."""
        stop = logits_end(self._chain, self._classifies())
        return self._chain.forward(np.asarray(X, self._chain.dtype), 0, stop)

    def _decide(self, outputs):
        return self._network.decide(outputs)
