"""The page that shows a network of features: what it holds, and how it is written.

It knows no network: `skfeat.network` and `skfeat.language` describe theirs by the
classes of `_description`, and `_page` writes any description into one HTML file.
"""
