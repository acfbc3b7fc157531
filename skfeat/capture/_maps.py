"""Maps of channels over positions, such as those of convolutions, as rows and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.capture._layouts import Order
from skfeat.capture._locate import Located, Seen
from skfeat.capture._tokens import Tokens
from skfeat.utils._checks import check_int

LAYOUTS = ("auto", "channels_first", "channels_last", "time_first")


def check_layout(layout: Any) -> str:
    """Return a layout, or raise ValueError."""
    if not (isinstance(layout, str) and layout in LAYOUTS):
        raise ValueError(
            f"layout must be one of {', '.join(map(repr, LAYOUTS))}. Got {layout!r} "
            "instead."
        )
    return layout


def check_drawn(n_positions: Any, random_state: Any) -> tuple[int | None, int]:
    """Return how many positions of a sample are drawn, and the seed."""
    if n_positions is not None:
        n_positions = check_int("n_positions", n_positions, least=1)
    return n_positions, check_int("random_state", random_state, most=2**32 - 1)


def rows_of_maps(what: str, seen: Seen, layout: str, has_tokens: bool) -> Seen:
    """Return maps with their positions as rows, and anything else as it is.

    Parameters
    ----------
    what : str
        Whose tensor it is, for messages.
    seen : Seen
    layout : str
        One of `LAYOUTS`. "auto" takes four dimensions or more for the maps of torch's
        convolutions, except in batches of tokens, where they may be heads of attention.
    has_tokens : bool
        Whether the batch holds tokens.

    Raises
    ------
    ValueError
        If the tensor is no map of a layout that was named.
    """
    tensor = seen.tensor
    if layout == "auto" and (has_tokens or tensor.ndim < 4 or seen.packed is not None):
        return seen
    is_series = tensor.ndim == 3 and seen.packed is None
    if not (is_series or (tensor.ndim >= 4 and layout != "time_first")):
        wanted = "(time, n, channels)" if layout == "time_first" else "3-D or more"
        raise ValueError(
            f"layout={layout!r} needs maps of {wanted}, but the {what} has the "
            f"shape {tuple(tensor.shape)}."
        )
    match layout:
        case "channels_last":
            maps = tensor
        case "time_first":
            maps = tensor.transpose(0, 1)
        case _:
            maps = tensor.movedim(1, -1)
    n, *sizes, width = maps.shape
    n_positions = int(np.prod(sizes))
    return Seen(maps.reshape(n, n_positions, width), None, tuple(sizes))


def located_maps(seen: dict[str, Seen], tokens: Tokens) -> Located:
    """Return the places of the rows of maps, which their axes tell."""
    (first_name, first), *others = seen.items()
    for name, one in others:
        if one.map_shape != first.map_shape:
            kinds = [
                "rows" if part.map_shape is None else f"maps of {part.map_shape}"
                for part in (first, one)
            ]
            raise ValueError(
                f"modules {first_name!r} and {name!r} hold {kinds[0]} and {kinds[1]} "
                f"for batch {tokens.number}: capture them in separate calls."
            )
    stream = tokens.streams[0]
    n, is_text = first.shape[0], stream.ids is not None
    # A series passed with the positions first has its samples in the second axis.
    axes = stream.values.shape[: 1 if is_text else 2]
    if n not in axes:
        raise ValueError(
            f"module {first_name!r} gives maps of {n} samples for batch "
            f"{tokens.number}, whose {stream} has the shape "
            f"{tuple(stream.values.shape)}: layout must say where the samples stand."
        )
    order = Order(stream, "maps", first.shape, None)
    return Located(stream, first.shape, order.ids, dict.fromkeys(seen))


def drawn_positions(
    keep: np.ndarray, n_positions: int, seed: int, number: int
) -> np.ndarray:
    """Keep at most some positions of each sample, drawn without replacement.

    Parameters
    ----------
    keep : ndarray of bool, shape (n_samples, length)
        The positions to draw from.
    n_positions, seed : int
    number : int
        Number of the batch: each batch draws the same whenever it is captured.
    """
    # Not of the global generator, and of any length of the capture before.
    drawn = np.random.default_rng([seed, number]).random(keep.shape)
    drawn[~keep] = 2.0
    rank = drawn.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return keep & (rank < n_positions)


def joined_shape(
    before: tuple[int, ...] | None, shape: tuple[int, ...] | None, number: int
) -> tuple[int, ...] | None:
    """Return the shape of maps of several batches.

    Series may be of several lengths; pictures must be of one size.
    """
    if before is None or shape is None or before == shape:
        return before if shape is None else shape
    if len(before) == len(shape) == 1:
        return max(before, shape)
    raise ValueError(
        f"batches must give maps of one size. Batch {number} has {shape}, those before "
        f"it {before}."
    )


def to_maps(
    values: np.ndarray,
    sample: np.ndarray,
    position: np.ndarray,
    shape: tuple[int, ...],
    fill: float,
) -> np.ndarray:
    """Put rows back to their places.

    Parameters
    ----------
    values : ndarray of shape (n_rows, m)
    sample, position : ndarray of int, shape (n_rows,)
    shape : tuple of int
        (n_samples, ...): how many samples there are, and the sizes of a map.
    fill : float
        What stands where there is no row.

    Returns
    -------
    ndarray of shape (n_samples, m, ...)
    """
    n, *sizes = shape
    dtype = values.dtype
    if len(values) < n * int(np.prod(sizes)) and not np.can_cast(type(fill), dtype):
        dtype = np.result_type(dtype, np.float32)
    maps = np.full((n, values.shape[1], int(np.prod(sizes))), fill, dtype)
    maps[sample, :, position] = values
    return maps.reshape(n, values.shape[1], *sizes)
