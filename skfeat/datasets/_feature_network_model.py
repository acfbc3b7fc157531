"""A torch model that computes a network of known features."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skfeat.datasets._sparse_features import _check
from skfeat.utils._checks import type_error
from skfeat.utils._sklearn import Interval

# What is read of a network.
_PARTS = ("features", "dictionaries", "kinds", "coefs", "intercepts")
_BATCH_SIZE = 512
_RATE = 3e-3
# Share of the largest second moment that keeps the read-outs from fitting noise.
_RIDGE = 1e-6
# Offsets exceed what they are to make positive by this factor: rows vary, and training.
_MARGIN = 1.5


def make_feature_network_model(network, *, max_iter=3000, random_state=None):
    """Build a torch model whose hidden layers are those of a network of known features.

    The model reads the features of the first layer, writes them in superposition, and
    computes each later layer from the layer before as it is written: ::

        x1 = relu(features @ dictionary + offset)       # Linear, ReLU
        x2 = relu(relu(x1 @ A.T + a) @ B.T + b)         # Linear, ReLU, Linear, ReLU
        ...
        outputs = x3 @ C.T + c                          # Linear: the last features

    The hidden layers to unwrap are x1, x2 and so on, whose features have the directions
    of `network`. Their offsets are so large that their ReLU changes nothing, which
    makes them layers like others: what is written is no neuron's alone. The neurons
    between them, as many as the features, need no unwrapping.

    Where each layer has as many dimensions as features, the directions are orthonormal
    and the model is exact, to float32. In superposition no single layer of neurons
    reads features without error, so the weights are trained, from the best linear
    read-outs, until every x and the outputs are as near as they come. How near is
    returned. A model trained on its outputs alone may have any features: the layers are
    trained too because what is to be found must be known.

    Parameters
    ----------
    network : Bunch
        As :func:`make_feature_network` returns it. Its distractors, which nothing
        computes, and its noise are not in the model.

    max_iter : int, default=3000
        Updates of the training, of 512 rows each. Without superposition there is none.

    random_state : int, RandomState instance or None, default=None
        Seeds the choice of rows. ``None`` takes numpy's global generator, as in
        scikit-learn.

    Returns
    -------
    result : Bunch
        module : torch.nn.Sequential
            The model, in evaluation mode.
        layers : list of str
            The names of x1, x2, ..., for ``FeatureUnwrapper(module, layers=layers)``.
        r2 : ndarray of shape (n_layers + 1,)
            Share of the variance of each x that the model's own explains, then of the
            last features by the outputs.

    Raises
    ------
    InvalidParameterError
        A ValueError, if a parameter is not valid.
    TypeError
        If `network` is none.

    See Also
    --------
    skfeat.FeatureUnwrapper : Unwraps it.

    Examples
    --------
    >>> from skfeat.datasets import make_feature_network, make_feature_network_model
    >>> network = make_feature_network(1000, n_hidden=120, random_state=0)
    >>> model = make_feature_network_model(network, random_state=0)
    >>> model.layers
    ['1', '5', '9']
    >>> bool(model.r2.min() > 0.99999)
    True
    """
    import torch

    from skfeat.utils._torch import with_gradients

    if not all(hasattr(network, name) for name in _PARTS):
        raise type_error("network", "what make_feature_network returns", network)
    _check("max_iter", max_iter, Interval(Integral, 0, None, closed="left"))
    rng = check_random_state(random_state)
    features = [
        np.asarray(rows.toarray(), np.float32) * (kinds != "distractor")
        for rows, kinds in zip(network.features, network.kinds, strict=True)
    ]
    targets = [
        (rows @ dictionary).astype(np.float32)
        for rows, dictionary in zip(features, network.dictionaries, strict=True)
    ]
    last = network.kinds[-1] != "distractor"
    targets.append(features[-1][:, last])
    crowded = any(m > d for m, d in map(np.shape, network.dictionaries))
    with with_gradients():
        module, ends = _start(network, features, targets)
        module.requires_grad_(False)
        if crowded:
            _train(module, ends, features[0], targets, max_iter, rng)
        found = _run(module, ends, torch.from_numpy(features[0]))
        module, layers = _rectified(module, ends, found)
    r2 = [_r2(y, x.double().numpy()) for x, y in zip(found, targets, strict=True)]
    return Bunch(module=module.eval(), layers=layers, r2=np.array(r2))


def _start(network, features, targets):
    """Return the model with the best linear read-outs, and where its layers end."""
    from torch import nn

    modules = [_linear(network.dictionaries[0].T, np.zeros(1))]
    ends = [0]
    for index, (coef, intercept) in enumerate(
        zip(network.coefs, network.intercepts, strict=True)
    ):
        read, offset = _read_out(targets[index], features[index])
        known = network.kinds[index + 1] != "distractor"
        coef, intercept = coef[known].toarray(), intercept[known]
        modules += [
            _linear(coef @ read, coef @ offset + intercept),
            nn.ReLU(),
            _linear(network.dictionaries[index + 1][known].T, np.zeros(1)),
        ]
        ends.append(len(modules) - 1)
    last = network.kinds[-1] != "distractor"
    read, offset = _read_out(targets[-2], features[-1])
    modules.append(_linear(read[last], offset[last]))
    ends.append(len(modules) - 1)
    return nn.Sequential(*modules), ends


def _linear(weight, bias):
    import torch

    # Initial weights would be drawn from the global generator.
    layer = torch.nn.utils.skip_init(
        torch.nn.Linear, *weight.shape[::-1], dtype=torch.float32, device="cpu"
    )
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias).expand(len(weight)))
    return layer


def _read_out(written, features):
    """Return the least-squares weights and intercept that read features from rows."""
    mean, centre = written.mean(axis=0, dtype=float), features.mean(axis=0, dtype=float)
    X = written.astype(float) - mean
    moments = X.T @ X
    ridge = _RIDGE * np.trace(moments) / len(moments) * np.eye(len(moments))
    weight = np.linalg.solve(moments + ridge, X.T @ (features - centre)).T
    return weight, centre - weight @ mean


def _rectified(module, ends, found):
    """Put a ReLU that changes nothing behind all layers but the outputs.

    Training goes better without the offsets that this needs, as they are large.
    """
    import torch

    names: list[str] = []
    modules: list[torch.nn.Module] = [module[0]]
    for layer in module[1:]:
        index = len(names)
        before = modules[-1]
        if isinstance(before, torch.nn.Linear) and isinstance(layer, torch.nn.Linear):
            offset = -_MARGIN * found[index].min(dim=0).values.clamp(max=0.0)
            before.bias.add_(offset)
            layer.bias.sub_(layer.weight @ offset)
            names.append(str(len(modules)))
            modules.append(torch.nn.ReLU())
        modules.append(layer)
    return torch.nn.Sequential(*modules), names


def _r2(target, found) -> float:
    spread = np.square(target - target.mean(axis=0, dtype=float)).sum()
    return float(1.0 - np.square(found - target).sum() / spread) if spread else 1.0


def _run(module, ends, rows):
    """Return what the layers at `ends` compute."""
    found = []
    for begin, end in pairwise([-1, *ends]):
        rows = module[begin + 1 : end + 1](rows)
        found.append(rows)
    return found


def _train(module, ends, inputs, targets, max_iter, rng):
    """Train all weights but the first, which are exact, on every layer."""
    import torch

    from skfeat.utils._adam import Adam

    parameters = [p for layer in module[1:] for p in layer.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = Adam(parameters, _RATE)
    scales = [float(np.square(y - y.mean(axis=0)).sum() / len(y)) for y in targets]
    for step in range(max_iter):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1.0 - step / max_iter)
        batch = rng.randint(len(inputs), size=min(_BATCH_SIZE, len(inputs)))
        found = _run(module, ends, torch.from_numpy(inputs[batch]))
        loss = sum(
            (x - torch.from_numpy(y[batch])).square().sum(dim=1).mean() / scale
            for x, y, scale in zip(found, targets, scales, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.requires_grad_(False)
