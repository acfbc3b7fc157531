"""Circuits of known features: which operations are drawn, and their weights.

The first features of a circuit are inputs; each later one is a rectified sum of few
features of the layer before. Magnitudes stay within known ranges, for which weights are
chosen so that a feature fires exactly where its logic says.

A circuit is identifiable by construction. Its inputs fire independently of one another
where it is on, so truth tables give the share of rows on which any two features fire
together, and an operation is taken only where

- its parents fire together often, and each without the other too: an OR of parents that
  hardly ever fire together is linear, and other features explain it as well;
- no feature of its layer nearly implies another: sparse codes would merge the two.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np

# Parents of an operation fire together on at least this share of the rows of each, and
# at most that; no two features of a layer do on more.
_LEAST_TOGETHER, _MOST_TOGETHER = 0.15, 0.75
# A feature fires on at least this share of the rows on which its circuit is on.
_LEAST_FIRING = 0.05
# Smallest over largest magnitude that an operation takes from a parent: of the sum that
# an AND needs, less one; of what an AND NOT must outweigh; of what a hinge tells apart.
_LEAST_AND, _LEAST_NOT, _LEAST_HINGE = 0.15, 0.3, 0.6
# Operations by AND and AND NOT that a feature is a parent of.
_MOST_CHILDREN = 2
_HINGES = ("any", "limit")
# How far a threshold is above what it is to exceed, for which rounding is no match.
_MARGIN = 1.02
# Of a pair of hinges: the threshold of the first, over one parent's smallest magnitude,
# and what the least of a blocking feature adds to the second, above its threshold.
_THRESHOLD, _BLOCK = 0.7, 1.5
# Features differ in scale by no more than this factor from 1.
_SCALE = 1.25


@dataclass
class Feature:
    """A feature of a layer: its operation, and when and how strongly it fires.

    Parameters
    ----------
    kind : str
        "input", "copy", "and", "and not", "any", "limit" or "or".
    truth : ndarray of bool of shape (2 ** width,)
        Whether it fires, for each set of inputs that may fire together.
    low, high : float
        Range of its magnitude where it fires.
    weights : dict of int to float
        Weights by the position of the parent in the layer before.
    intercept : float
    blocked : ndarray of bool, of a "limit"
        Where the OR that reads it is to be off.
    """

    kind: str
    truth: np.ndarray
    low: float
    high: float
    weights: dict[int, float] = field(default_factory=dict)
    intercept: float = 0.0
    blocked: np.ndarray | None = None

    @property
    def relative_low(self) -> float:
        """Smallest over largest magnitude."""
        return self.low / self.high


class CircuitDrawer:
    """Draws circuits, layer by layer.

    Parameters
    ----------
    rng : RandomState
    width : int
        Inputs of a circuit, and the most features of a later layer.
    n_layers : int
    magnitudes : pair of float
        Range of the magnitudes of the inputs.
    together : float
        Probability with which an input fires where its circuit is on.
    """

    def __init__(self, rng, width, n_layers, magnitudes, together):
        self.rng = rng
        self.width = width
        self.n_layers = n_layers
        self.magnitudes = magnitudes
        self.inputs = (np.arange(2**width)[:, None] >> np.arange(width) & 1) == 1
        n_on = self.inputs.sum(axis=1)
        self.probabilities = together**n_on * (1.0 - together) ** (width - n_on)

    def draw(self) -> list[list[Feature]]:
        """Return the features of each layer of a circuit."""
        layers = [[Feature("input", on, *self.magnitudes) for on in self.inputs.T]]
        for depth in range(1, self.n_layers):
            layers.append(self._next(layers[-1], is_last=depth + 1 == self.n_layers))
        return layers

    def _next(self, before, *, is_last) -> list[Feature]:
        """Draw a layer: the OR of hinges, new hinges, a copy, ANDs and AND NOTs."""
        hinges = [i for i, feature in enumerate(before) if feature.kind in _HINGES]
        layer = [self._or(before, *hinges)] if hinges else []
        free = [i for i in range(len(before)) if i not in hinges]
        # No feature reads the first of them.
        free = [int(i) for i in self.rng.permutation(free)[1:]]
        negative = list(free)
        if not is_last:
            used = self._add_hinges(before, free, layer)
            free = [i for i in free if i not in used]
            negative = [i for i in negative if i not in used[:2]]
        if len(free) > 3:
            copied = free.pop()
            negative.remove(copied)
            self._add(self._copy(before, copied), layer)
        draws = [
            [self._and(before, i, j) for i, j in combinations(free, 2)],
            [self._and_not(before, i, j) for i in free for j in negative if i != j],
        ]
        for made in draws:
            self.rng.shuffle(made)
        self._add_by_turns(draws, layer)
        return layer

    def _add_by_turns(self, draws, layer) -> None:
        """Add as many of each kind, one for each pair of parents, few for a parent."""
        n_children: Counter[int] = Counter()
        pairs: set[frozenset[int]] = set()
        while any(draws):
            for made in draws:
                added = False
                while made and not added:
                    feature = made.pop()
                    parents = frozenset(feature.weights) if feature else frozenset()
                    has_room = all(n_children[i] < _MOST_CHILDREN for i in parents)
                    added = has_room and parents not in pairs
                    added = added and self._add(feature, layer)
                if added:
                    pairs.add(parents)
                    n_children.update(parents)

    def _add(self, feature, layer) -> bool:
        """Add a feature to a layer if there is room and it can be told from others."""
        is_new = (
            feature is not None
            and len(layer) < self.width
            and self._rate(feature.truth) >= _LEAST_FIRING
            and all(self._can_be_told(feature, other) for other in layer)
        )
        if is_new:
            layer.append(feature)
        return is_new

    def _add_hinges(self, before, free, layer) -> tuple[int, ...]:
        """Add a pair of hinges; return the features that it reads."""
        for i, j, k in permutations(free, 3):
            pair = self._hinges(before, i, j, k)
            if pair and all(self._can_be_told(f, g) for f in pair for g in layer):
                layer += pair
                return i, j, k
        return ()

    def _copy(self, before, i):
        feature, scale = before[i], self._scale()
        low = scale * feature.relative_low
        return Feature("copy", feature.truth, low, scale, {i: scale / feature.high})

    def _and(self, before, i, j):
        """Return i AND j: the threshold exceeds the largest magnitude of one parent."""
        a, b = before[i], before[j]
        low = a.relative_low + b.relative_low - _MARGIN
        if low < _LEAST_AND or not self._are_parents(a, b):
            return None
        scale = self._scale()
        slope = scale / (2.0 - _MARGIN)
        weights = {i: slope / a.high, j: slope / b.high}
        truth = a.truth & b.truth
        return Feature("and", truth, slope * low, scale, weights, -_MARGIN * slope)

    def _and_not(self, before, i, j):
        """Return i AND NOT j: the least of j outweighs the most of i."""
        a, b = before[i], before[j]
        if b.relative_low < _LEAST_NOT or not self._are_parents(a, b):
            return None
        scale = self._scale()
        weights = {i: scale / a.high, j: -_MARGIN * scale / b.low}
        low = scale * a.relative_low
        return Feature("and not", a.truth & ~b.truth, low, scale, weights)

    def _hinges(self, before, i, j, k):
        """Return what an OR of i and j that k switches off is the difference of.

        The first fires where one parent does; from where both do, the second takes off
        what is beyond one parent's magnitude. It fires for k alone too: one that only
        fires where the first does could not be told from a part of it.
        """
        a, b, c = before[i], before[j], before[k]
        least = min(a.relative_low, b.relative_low)
        if (
            least < _LEAST_HINGE
            or c.relative_low < _LEAST_NOT
            or not self._are_parents(a, b)
        ):
            return None
        one = {i: 1.0 / a.high, j: 1.0 / b.high}
        threshold = _THRESHOLD * least
        low, high = least - threshold, 2.0 - threshold
        either = Feature("any", a.truth | b.truth, low, high, one, -threshold)
        limit = Feature(
            "limit",
            a.truth & b.truth | c.truth,
            min(2.0 * least, _BLOCK) - _MARGIN,
            2.0 - _MARGIN + _BLOCK / c.relative_low,
            {**one, k: _BLOCK / c.low},
            -_MARGIN,
            blocked=c.truth,
        )
        if not self._are_parents(either, limit):
            return None
        return either, limit

    def _or(self, before, i, j):
        either, limit = before[i], before[j]
        scale = self._scale()
        # The difference of their thresholds is that of both where both parents fire.
        slope = scale / (either.intercept - limit.intercept)
        truth = either.truth & ~limit.blocked
        return Feature("or", truth, slope * either.low, scale, {i: slope, j: -slope})

    def _scale(self):
        return float(self.rng.uniform(1.0 / _SCALE, _SCALE))

    def _rate(self, truth) -> float:
        return float(self.probabilities[truth].sum())

    def _together(self, a, b) -> tuple[float, float]:
        """Return on which share of the rows of the commoner, and the rarer, both do."""
        both = self._rate(a.truth & b.truth)
        rarer, commoner = sorted((self._rate(a.truth), self._rate(b.truth)))
        return both / commoner, both / rarer

    def _can_be_told(self, a, b) -> bool:
        """Tell whether neither of two features of a layer nearly implies the other."""
        return self._together(a, b)[1] <= _MOST_TOGETHER

    def _are_parents(self, a, b) -> bool:
        least, most = self._together(a, b)
        return least >= _LEAST_TOGETHER and most <= _MOST_TOGETHER
