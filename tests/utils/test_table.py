"""Tables whose figures stand beside their columns."""

import copy
import pickle

import pytest

from skfeat.utils._table import Table


class Lengths(Table):
    """Takes other arguments than its base, as the reports do."""

    def __init__(self, unit, **columns):
        super().__init__({"unit": unit}, columns)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))]
)
def test_what_stands_beside_the_columns_is_kept_and_is_no_column(again):
    table = again(Lengths("cm", name=["a", "b"], unit_length=[1, 2]))
    assert type(table) is Lengths
    assert (table.unit, table.name) == ("cm", ["a", "b"])
    assert list(table) == ["name", "unit_length"]
