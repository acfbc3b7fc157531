"""Rows of files, tables and streams: read in batches, or stored for a fit."""

from skfeat.rows._iterate import iter_rows
from skfeat.rows._store import store_rows

__all__ = ["iter_rows", "store_rows"]
