"""Where the documentation is."""

SITE = "https://skfeat.readthedocs.io/en/latest/"
