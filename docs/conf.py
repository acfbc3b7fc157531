"""How Sphinx builds the site of skfeat: ``make docs``."""

import os
import sys
import warnings
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# The gallery runs in this process: small fits are fastest on one thread each.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from skfeat import __version__  # noqa: E402

project = "skfeat"
author = "The skfeat developers"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "api_pages",
    "record_pages",
    "site_links",
]
exclude_patterns = ["_build", "examples", "scripts", "api/*.inc"]
# Single backticks in docstrings are names of parameters and attributes.
default_role = "literal"
# Types in the reference keep the quotes of the code.
smartquotes = False
nitpicky = True
# Names of other projects resolve only where their inventories can be fetched.
_OTHERS = ("sklearn", "numpy", "scipy", "torch", "pandas", "matplotlib", "joblib")
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(_OTHERS)})(\..*)?"),
]
# The configuration holds functions, which Sphinx cannot compare with those of the build
# before: it warns, and reads all pages again.
suppress_warnings = ["config.cache"]

autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
numpydoc_validation_checks = set()

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4


def _reaches_the_network() -> bool:
    try:
        with urlopen("https://docs.python.org/3/objects.inv", timeout=3):
            return True
    except OSError:
        return False


# Without a network, names of other projects stay plain text instead of failing.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://pytorch.org/docs/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }
    if _reaches_the_network()
    else {}
)


# Examples in the order of the gallery; others come after them.
ORDER = [
    *("unwrap_digits", "explain_one_row", "connection_graph", "ablation"),
    *("regression", "sparsity_accuracy", "controls", "save_predict"),
    *("article_activations", "article_weights", "feature_displays", "choose_k"),
    *("activations_compared", "pipeline_grid_search", "stream"),
    *("known_dictionary", "known_circuits", "lasso_path"),
    *("language_pair", "whole_model", "other_files"),
]


def place_in_gallery(filename: str) -> tuple[int, str]:
    """Return what examples are sorted by."""
    name = Path(filename).stem.removeprefix("plot_")
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name


_caught = warnings.catch_warnings()


def warnings_are_errors(gallery_conf, fname, when) -> None:
    """Let an example that warns fail, unless it says so itself; Sphinx may warn."""
    global _caught
    if when == "before":
        _caught = warnings.catch_warnings()
        _caught.__enter__()
        warnings.simplefilter("error")
    else:
        _caught.__exit__(None, None, None)


sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("skfeat",),
    "reset_modules": ("matplotlib", warnings_are_errors),
    "reset_modules_order": "both",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "download_all_examples": True,
    "within_subsection_order": place_in_gallery,
    "capture_repr": ("_repr_html_",),
    "matplotlib_animations": False,
    "min_reported_time": 0,
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = "skfeat"
html_static_path = ["_static"]
html_css_files = ["skfeat.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "skfeat"},
    "show_nav_level": 1,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "why_not": [], "citing": [], "glossary": []}
