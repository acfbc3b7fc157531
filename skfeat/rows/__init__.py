"""Rows that come from elsewhere than one array: read in batches, stored for a fit."""

from skfeat.rows._iterate import iter_rows
from skfeat.rows._store import store_rows

__all__ = ["iter_rows", "store_rows"]
