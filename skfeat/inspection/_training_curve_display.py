"""The loss of one or more estimators over the epochs of their training."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skfeat.inspection._axes import integer_ticks, single_axes
from skfeat.inspection._inputs import check_labels, fitted_step, fitted_steps
from skfeat.inspection._style import style
from skfeat.utils._checks import check_option, check_sequence, value_error


class TrainingCurveDisplay:
    """Picture of training losses.

    It is recommended to create one with :meth:`from_estimator`,
    :meth:`from_estimators` or :meth:`from_curves`.

    Parameters
    ----------
    loss_curves : sequence of array-like
        Curves with one loss for each epoch; lengths may differ.
    names : sequence of str, default=None
        One name for each curve, for the legend.
    pruned : sequence of (first, last) or None, default=None
        Between which epochs of each curve weights were pruned; None: of none.

    Attributes
    ----------
    line_ : list of matplotlib Line2D
        The curves.
    spans_ : list of matplotlib Patch
        The shaded epochs in which weights were pruned.
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> from skfeat.inspection import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay(loss_curves=[[3.0, 1.0, 0.5], [2.0, 1.5]])
    >>> len(display.plot().line_)
    2
    """

    def __init__(self, *, loss_curves, names=None, pruned=None):
        self.loss_curves = loss_curves
        self.names = names
        self.pruned = pruned

    def plot(self, *, ax=None, yscale="linear", curve_kwargs=None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure.
        yscale : {"linear", "log"}, default="linear"
            Scale of the loss axis.
        curve_kwargs : dict or list of dict, default=None
            Options of `Axes.plot`: a dict for all curves, or a list with one for each.

        Returns
        -------
        display : TrainingCurveDisplay
            The object itself.
        """
        check_option("yscale", yscale, ("linear", "log"))
        curves = check_sequence("loss_curves", "curves", self.loss_curves)
        curves = [_check_curve(curve, yscale) for curve in curves]
        if not curves:
            raise value_error("loss_curves", "one curve or more", [])
        names = check_labels("names", self.names, len(curves))
        styles = curve_kwargs
        if curve_kwargs is None or isinstance(curve_kwargs, dict):
            styles = [curve_kwargs] * len(curves)
        styles = check_sequence("curve_kwargs", "dicts", styles)
        if len(styles) != len(curves):
            allowed = f"a dict or a list of {len(curves)} dicts"
            raise value_error("curve_kwargs", allowed, curve_kwargs)

        pruned = _check_spans(self.pruned, len(curves))

        ax = single_axes(f"{type(self).__name__}.plot", ax)
        self.line_ = []
        self.spans_: list[Any] = []
        for i, (curve, curve_kw) in enumerate(zip(curves, styles, strict=True)):
            defaults = {"label": names[i] if names else None, "linewidth": 1.8}
            if curve.size == 1:  # a line through one point is invisible
                defaults["marker"] = "o"
            epochs = np.arange(1, curve.size + 1)
            self.line_ += ax.plot(epochs, curve, **style(defaults, curve_kw))
            span = pruned[i]
            if span is not None:
                shade = {"color": self.line_[-1].get_color(), "alpha": 0.12}
                label = "pruning" if names and not self.spans_ else None
                self.spans_.append(ax.axvspan(*span, linewidth=0, label=label, **shade))
        ax.set(xlabel="epoch", ylabel="training loss", yscale=yscale)
        integer_ticks(ax.xaxis)
        if names:
            ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls, estimator, *, name=None, ax=None, yscale="linear", curve_kwargs=None
    ) -> Self:
        """Draw the `loss_curve_` of a fitted estimator.

        Epochs in which it pruned weights, its `pruning_epochs_`, are shaded.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `loss_curve_`, or a pipeline that ends in one.
        name : str, default=None
            Name for the legend; None: the name of the class.
        ax, yscale, curve_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The drawn display.

        Examples
        --------
        >>> from sklearn.neural_network import MLPRegressor
        >>> from skfeat.inspection import TrainingCurveDisplay
        >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]
        >>> net = MLPRegressor(tol=1.0, random_state=0).fit(X, y)
        >>> display = TrainingCurveDisplay.from_estimator(net, yscale="log")
        """
        fitted_step("estimator", estimator, "loss_curve_")
        return cls.from_estimators(
            [estimator],
            names=None if name is None else [name],
            ax=ax,
            yscale=yscale,
            curve_kwargs=curve_kwargs,
        )

    @classmethod
    def from_estimators(
        cls, estimators, *, names=None, ax=None, yscale="linear", curve_kwargs=None
    ) -> Self:
        """Draw the `loss_curve_` of several fitted estimators on the same axes.

        Parameters
        ----------
        estimators : sequence of estimators
            Each fitted, with `loss_curve_`, or a pipeline that ends in one.
        names : sequence of str, default=None
            Names for the legend; None: the names of the classes, numbered if two are
            equal.
        ax, yscale, curve_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The drawn display.

        Examples
        --------
        >>> from sklearn.neural_network import MLPRegressor
        >>> from skfeat.inspection import TrainingCurveDisplay
        >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]
        >>> nets = [
        ...     MLPRegressor(tol=1.0, random_state=seed).fit(X, y)
        ...     for seed in (0, 1)
        ... ]
        >>> TrainingCurveDisplay.from_estimators(nets).names
        ['MLPRegressor 0', 'MLPRegressor 1']
        """
        steps = fitted_steps("estimators", estimators, "loss_curve_")
        if names is None:
            names = [type(step).__name__ for step in steps]
            if len(set(names)) < len(names):
                names = [f"{name} {i}" for i, name in enumerate(names)]
        display = cls(
            loss_curves=[step.loss_curve_ for step in steps],
            names=names,
            pruned=[getattr(step, "pruning_epochs_", None) for step in steps],
        )
        return display.plot(ax=ax, yscale=yscale, curve_kwargs=curve_kwargs)

    @classmethod
    def from_curves(
        cls, loss_curves, *, names=None, ax=None, yscale="linear", curve_kwargs=None
    ) -> Self:
        """Draw losses that were recorded elsewhere.

        Parameters
        ----------
        loss_curves, names
            As in :class:`TrainingCurveDisplay`.
        ax, yscale, curve_kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The drawn display.

        Examples
        --------
        >>> from skfeat.inspection import TrainingCurveDisplay
        >>> display = TrainingCurveDisplay.from_curves([[3.0, 1.0]], names=["relu"])
        """
        display = cls(loss_curves=loss_curves, names=names)
        return display.plot(ax=ax, yscale=yscale, curve_kwargs=curve_kwargs)


def _check_spans(spans: Any, n: int) -> list[tuple[float, float] | None]:
    """Return the first and last pruned epoch of each curve, or None."""
    if spans is None:
        return [None] * n
    allowed = f"None or {n} pairs (first, last), or None for a curve"
    given = check_sequence("pruned", "pairs", spans)
    try:
        pairs = [None if span is None else tuple(map(float, span)) for span in given]
    except (TypeError, ValueError):  # no pairs of numbers
        raise value_error("pruned", allowed, spans) from None
    checked: list[tuple[float, float] | None] = []
    for pair in pairs:
        if pair is None:
            checked.append(None)
        elif len(pair) == 2 and 0 <= pair[0] <= pair[1] < np.inf:
            checked.append((pair[0], pair[1]))
    if len(checked) != n or len(given) != n:
        raise value_error("pruned", allowed, spans)
    return checked


def _check_curve(curve: Any, yscale: str) -> np.ndarray:
    """Return a curve as a vector that the scale can show."""
    try:
        values = np.asarray(curve, dtype=float)
    except (TypeError, ValueError):  # no numbers
        values = np.empty(0)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        allowed = "a sequence of non-empty 1-D curves of finite numbers"
        raise value_error("loss_curves", allowed, curve)
    if yscale == "log" and values.min() <= 0:
        smallest = float(values.min())
        raise value_error("loss_curves", "positive for yscale='log'", smallest)
    return values
