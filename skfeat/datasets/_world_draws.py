"""Draws of a world of features: its trees, its directions, and which features fire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import ndtr, ndtri

# Numbers of a block of rows, of each kind: few enough to stay near the processor.
_BLOCK_ELEMENTS = 2**20
# Share of a hidden variable's variance that is its own, at least.
_LEAST_OWN = 0.01
# Step and decay rates of Adam, by which directions are made more orthogonal.
_STEP, _DECAYS, _EPSILON = 3e-4, (0.9, 0.999), 1e-8
_LOGISTIC_ERROR = 2e-4
# A float32 uniform number is a multiple of it.
_RESOLUTION = 2.0**-24


def draw_parents(rng, n_components, n_trees, n_children, depth) -> np.ndarray:
    """Return the parent of each feature, -1 for roots and features of no tree.

    Trees grow level by level until they are `depth` deep or features run out: the first
    features are the roots, the next ones the children of the first root, and so on.
    """
    parents = np.full(n_components, -1)
    level = range(min(n_trees, n_components))
    used = len(level)
    low, high = n_children
    for _ in range(depth):
        begin = used
        for parent in level:
            wanted = low if low == high else rng.randint(low, high + 1)
            parents[used : used + wanted] = parent
            used = min(used + wanted, n_components)
        level = range(begin, used)
    return parents


def draw_exclusive(rng, parents, share) -> np.ndarray:
    """Return of which features at most one child may fire, a bool array (m,)."""
    eligible = np.flatnonzero(_children_of(parents) >= 2)
    exclusive = np.zeros(len(parents), dtype=bool)
    # The product of a share such as 0.29 and 100 rounds to just below 29.
    n_chosen = int(share * len(eligible) + 1e-9)
    exclusive[rng.permutation(eligible)[:n_chosen]] = True
    return exclusive


def compensated(rates, parents, exclusive) -> np.ndarray:
    """Return rates given that the parent fires that make up for parents and siblings.

    ``p / q`` for a parent of rate q; where siblings exclude one another, more by one
    plus the number of siblings that are expected to fire where the parent does.
    """
    has_parent = parents >= 0
    given = np.where(has_parent, rates[parents], 1.0)
    of_siblings = np.bincount(parents[has_parent], rates[has_parent], len(rates))
    others = np.where(
        has_parent & exclusive[parents],
        np.maximum(of_siblings[parents] - rates, 0.0) / given,
        0.0,
    )
    return np.minimum(rates / given * (1.0 + others), 1.0)


def draw_factors(rng, n_components, rank, scale) -> np.ndarray:
    """Return weights (m, rank) of shared normal variables in each hidden variable."""
    factors = scale * rng.standard_normal((n_components, rank))
    squares = np.square(factors).sum(axis=1)
    largest = 1.0 - _LEAST_OWN
    return factors * np.sqrt(largest / np.maximum(squares, largest))[:, None]


def draw_directions(rng, n_components, n_features, n_steps, dtype) -> np.ndarray:
    """Return random directions (m, d) of norm one, after steps towards orthogonality.

    Each is a step of Adam down the sum of squared products of two directions, with as
    much weight as there are directions on lengths other than one.
    """
    rows = _unit(rng.standard_normal((n_components, n_features))).astype(dtype)
    first, second = np.zeros_like(rows), np.zeros_like(rows)
    for step in range(1, n_steps + 1):
        squares = np.square(rows).sum(axis=1, keepdims=True)
        # Of all products with a row, its own with itself is taken out again.
        slope = rows @ (rows.T @ rows)
        slope += rows * (n_components * (squares - 1.0) - squares)
        slope *= 4.0
        first += (1.0 - _DECAYS[0]) * (slope - first)
        second += (1.0 - _DECAYS[1]) * (np.square(slope) - second)
        root = np.sqrt(second / (1.0 - _DECAYS[1] ** step)) + _EPSILON
        rows -= _STEP / (1.0 - _DECAYS[0] ** step) * (first / root)
    return _unit(rows)


def _at_most(levels):
    """Return upper bounds of normal integrals, of float32 numbers.

    The logistic curve of Bowling et al., "A logistic approximation to the cumulative
    normal distribution", 2009, is nowhere as much as `_LOGISTIC_ERROR` below.
    """
    bounds = np.square(levels)
    bounds *= -0.07056
    bounds -= 1.5976
    bounds *= levels
    with np.errstate(over="ignore"):
        np.exp(bounds, out=bounds)
    bounds += 1.0
    np.reciprocal(bounds, out=bounds)
    bounds += _LOGISTIC_ERROR
    return bounds


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _children_of(parents):
    return np.bincount(parents[parents >= 0], minlength=len(parents))


@dataclass
class CodeSampler:
    """Draws the codes of rows.

    Feature j fires where a normal variable is above a threshold; shared variables
    correlate them. Given those, features fire independently, each with a probability of
    its own: so only features that may fire are looked at. These are all without a
    parent, and the children of those that fire.

    Parameters
    ----------
    parents : ndarray of int of shape (m,)
    exclusive : ndarray of bool of shape (m,)
    probabilities : ndarray of shape (m,)
        Of firing, where the parent does.
    factors : ndarray of shape (m, rank)
    means, deviations : ndarray of shape (m,)
    scaled : bool
        Whether children have their parent's magnitude, over its mean, as a factor.
    """

    parents: np.ndarray
    exclusive: np.ndarray
    probabilities: np.ndarray
    factors: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    scaled: bool

    def __post_init__(self):
        self._n_children = _children_of(self.parents)
        # Features by parent: first those of none, then the children of each.
        self._order = np.argsort(self.parents, kind="stable")
        ends = np.cumsum(self._n_children)
        self._n_first = len(self.parents) - int(ends[-1])
        self._begins = self._n_first + ends - self._n_children
        own = np.sqrt(1.0 - np.square(self.factors).sum(axis=1))
        offsets = ndtri(self.probabilities) / own
        slopes = (self.factors / own[:, None]).T
        self._offsets = offsets[self._order].astype(np.float32)
        self._slopes = slopes[:, self._order].astype(np.float32)

    def blocks(self, n_samples):
        """Return the numbers of rows of blocks that are drawn one after the other."""
        size = max(1, _BLOCK_ELEMENTS // len(self.parents))
        return np.diff(np.append(np.arange(0, n_samples, size), n_samples))

    def draw(self, rng, n_rows) -> sparse.csr_array:
        """Return the codes (n_rows, m) of rows."""
        shared = rng.standard_normal((n_rows, len(self._slopes)), dtype=np.float32)
        # Of each row and feature, by parent: what its probability is the normal
        # integral of.
        levels = shared @ self._slopes
        levels += self._offsets
        fired = self._magnitudes(rng, *self._draw_first(rng, levels))
        found = [fired]
        while len(fired[0]):
            fired = self._draw_children(rng, levels, *fired)
            found.append(fired)
        rows, columns, values = (
            np.concatenate(parts) for parts in zip(*found, strict=True)
        )
        shape = (n_rows, len(self.parents))
        return sparse.csr_array((values, (rows, columns)), shape=shape)

    def _draw_first(self, rng, levels):
        """Draw which features without a parent fire; return rows and columns."""
        levels = levels[:, : self._n_first]
        uniform = rng.random(levels.shape, dtype=np.float32)
        # Few are below the bounds, and only those need the integrals.
        found = np.flatnonzero(uniform < _at_most(levels))
        rows, places = np.divmod(found, self._n_first)
        fires = self._below(rng, uniform.ravel()[found], levels[rows, places])
        return rows[fires], self._order[places[fires]]

    def _draw_children(self, rng, levels, rows, columns, values):
        """Draw which children of features that fire do; return them as they were."""
        counts = self._n_children[columns]
        pairs = np.repeat(np.arange(len(columns)), counts)
        within = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = self._begins[columns[pairs]] + within
        uniform = rng.random(len(pairs), dtype=np.float32)
        fires = self._below(rng, uniform, levels[rows[pairs], places])
        pairs, children = pairs[fires], self._order[places[fires]]
        _, children, magnitudes, pairs = self._magnitudes(
            rng, rows[pairs], children, pairs
        )
        # Of siblings that exclude one another, one of those that would fire does.
        order = np.argsort(pairs + rng.random(len(pairs)))
        pairs, children, magnitudes = pairs[order], children[order], magnitudes[order]
        is_first = np.diff(pairs, prepend=-1) > 0
        kept = is_first | ~self.exclusive[columns[pairs]]
        pairs, children, magnitudes = pairs[kept], children[kept], magnitudes[kept]
        if self.scaled:
            magnitudes = magnitudes * values[pairs] / self.means[columns[pairs]]
        return rows[pairs], children, magnitudes

    def _magnitudes(self, rng, rows, columns, *others):
        """Draw magnitudes, and leave out features of none."""
        normal = rng.standard_normal(len(columns))
        values = self.means[columns] + self.deviations[columns] * normal
        kept = values > 0
        return rows[kept], columns[kept], values[kept], *(o[kept] for o in others)

    @staticmethod
    def _below(rng, uniform, levels):
        """Tell which uniform numbers are below probabilities, to more than 24 bits."""
        finer = uniform + _RESOLUTION * rng.random(len(uniform))
        return finer < ndtr(levels.astype(np.float64))
