"""Sizes at which one way of computing takes over from another, in one object.

Results depend on them by rounding alone. Tests set attributes of `LIMITS`, so that
small problems run the code of large ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limits:
    """Where to change over; every number was measured on two cores of an AMD EPYC.

    Attributes
    ----------
    active_density : float
        Share of active codes above which dense products are faster than loops over
        the active codes.
    narrow_bytes : int
        Bytes of an autoencoder's gradients up to which it is *narrow*: a cache holds
        them, and a thread takes each tile of rows from the codes to the gradients.
    narrow_tile_rows, narrow_chunks : int
        Rows of such a tile, and the largest number of chunks of a batch. More threads
        than chunks stay idle, and each chunk needs memory for all gradients. The
        division determines how sums are rounded, so neither depends on the machine.
    threaded_work : int
        Work, roughly in nanoseconds, below which a loop ends before another thread has
        started.
    compiled_training : float
        Multiply-adds of one of an autoencoder's products over all planned updates, up
        to which compiled loops would save two seconds or less, and take many more to
        compile where they have never run.
    compiled_gram, compiled_rectified, compiled_moments, compiled_masked : int
        Products of a connector's problem above which its loops are worth the seconds
        that they take to compile: of the Gram solver, the rectified one, second
        moments, and products with masked weights over a whole distillation.
    compiled_removal : int
        Weights times rows of all estimates of what removals cost, above which the same
        holds of their loop.
    compiled_prediction : int
        Multiply-adds of a call of a network that was not told to compile, up to which
        it takes a tenth of a second without loops, and these ten to compile.
    held_moments : int
        Numbers of second moments that are held at most, two GiB; wider connectors do
        without.
    moment_density : float
        Share of nonzeros up to which second moments are summed over nonzeros.
    masked_density : float
        Share of nonzero weights up to which products go over these alone.
    dense_rows, sparse_rows : float
        Products a pass up to which `FeatureConnector(solver="auto")` takes all rows at
        once: of dense inputs, and over the nonzeros of sparse ones.
    path_memory : int
        Numbers that a path of penalties may hold for the outputs of one thread.
    """

    active_density: float = 0.15
    narrow_bytes: int = 2**18
    narrow_tile_rows: int = 256
    narrow_chunks: int = 4
    threaded_work: int = 2**20
    compiled_training: float = 1.5e10
    compiled_gram: int = 2**21
    compiled_rectified: int = 2**27
    compiled_moments: int = 2**28
    compiled_masked: int = 2**31
    compiled_removal: int = 2**30
    compiled_prediction: int = 2**27
    held_moments: int = 2**28
    moment_density: float = 0.1
    masked_density: float = 0.15
    dense_rows: float = 5e8
    sparse_rows: float = 1e11
    path_memory: int = 2**22


LIMITS = Limits()
