"""Folders to share: fitted estimators and networks as safe files, with a model card.

A folder holds plain arrays and JSON, from which nothing is executed, and a page that
says what is in it. It can be read from, and written to, the Hugging Face Hub. Graphs of
explained rows and pages of features are written in the formats of sites that show them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from skfeat.sharing._attribution_graph import attribution_graph
from skfeat.sharing._card import model_card
from skfeat.sharing._folder import from_pretrained, push_to_hub, save_pretrained

if TYPE_CHECKING:
    from skfeat.sharing._dashboards import feature_dashboards

__all__ = [
    "attribution_graph",
    "feature_dashboards",
    "from_pretrained",
    "model_card",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str):
    # It reads what was captured with torch, which a saved network does without.
    if name != "feature_dashboards":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("skfeat.sharing._dashboards").feature_dashboards
