"""Folders to share: fitted estimators and networks as safe files, with a model card.

A folder holds plain arrays and JSON, from which nothing is executed, and a page that
says what is in it. It can be read from, and written to, the Hugging Face Hub.
"""

from skfeat.sharing._card import model_card
from skfeat.sharing._folder import from_pretrained, push_to_hub, save_pretrained

__all__ = ["from_pretrained", "model_card", "push_to_hub", "save_pretrained"]
