"""Pages of the API reference, written from one list of what is public.

A test compares the list with the names that the modules of skfeat make public.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

# Sections of the reference: title, module, what it is for, names.
SECTIONS = [
    (
        "Estimators",
        "skfeat",
        "What most users need; all of it imports from ``skfeat``.",
        [
            "SparseAutoencoder",
            "Transcoder",
            "FeatureEnsemble",
            "FeatureConnector",
            "FeatureConnectorCV",
            "FeatureUnwrapper",
        ],
    ),
    (
        "What unwrapping returns",
        "skfeat.unwrapper",
        "The tables of an unwrapper.",
        ["Report", "ControlReport"],
    ),
    (
        "The network of features",
        "skfeat.network",
        "Plain arrays that predict without torch.",
        [
            "SparseFeatureNetwork",
            "SparseMapNetwork",
            "Explanation",
            "Attribution",
            "DecisionRule",
        ],
    ),
    (
        "Controls",
        "skfeat.controls",
        "What a network of features has to stand beside.",
        [
            "fit_controls",
            "pruned_control",
            "scratch_control",
            "untrained_control",
            "shuffled_control",
            "ChainNetwork",
        ],
    ),
    (
        "Pictures",
        "skfeat.inspection",
        "Displays of features, connectors and networks.",
        [
            "ActivationDisplay",
            "ConnectorDisplay",
            "ConnectorHistoryDisplay",
            "FeatureGraphDisplay",
            "FeatureMapDisplay",
            "ImageGridDisplay",
            "ReconstructionDisplay",
            "TokenActivationsDisplay",
            "TopExamplesDisplay",
            "TrainingCurveDisplay",
            "maximize_activation",
        ],
    ),
    (
        "Metrics: reconstruction and codes",
        "skfeat.metrics",
        "How well features stand for what they replace, and how sparse they are.",
        [
            "explained_variance",
            "fvu",
            "kl_divergence",
            "l0",
            "feature_density",
            "density_histogram",
            "DensityHistogram",
            "dead_fraction",
            "n_dead",
            "used_features",
        ],
    ),
    (
        "Metrics: against a model or a known answer",
        "skfeat.metrics",
        "Scores of networks, dictionaries and edges.",
        [
            "agreement",
            "score_kept",
            "mean_ablation_floor",
            "paired_noise",
            "class_purity",
            "ClassPurity",
            "sparse_probe",
            "SparseProbe",
            "description_length",
            "match_components",
            "match_features",
            "matching_coefficient",
            "mean_max_cosine",
            "recovery_rate",
            "nearest_components",
            "mean_correlation_coefficient",
            "feature_detection",
            "FeatureDetection",
            "uniqueness",
            "shrinkage",
            "absorption",
            "Absorption",
            "stability",
            "edge_recovery",
            "EdgeRecovery",
            "path_recovery",
            "edge_stability",
            "EdgeStability",
        ],
    ),
    (
        "Metrics: scorers",
        "skfeat.metrics",
        "For ``scoring`` of a search; higher is better.",
        [
            "explained_variance_scorer",
            "neg_fvu_scorer",
            "neg_l0_scorer",
            "neg_dead_fraction_scorer",
            "make_recovery_scorer",
        ],
    ),
    (
        "Data sets",
        "skfeat.datasets",
        "Rows and networks whose features are known.",
        [
            "make_sparse_features",
            "make_feature_world",
            "FeatureWorld",
            "make_feature_network",
            "make_feature_network_model",
        ],
    ),
    (
        "Activations of a torch model",
        "skfeat.capture",
        "What modules compute, in arrays or files.",
        ["capture", "Capture", "Progress"],
    ),
    (
        "Rows",
        "skfeat.rows",
        "Rows of files, tables and streams.",
        ["iter_rows", "store_rows"],
    ),
    (
        "Compiling ahead",
        "skfeat.warm_up",
        "For images of containers and machines that shall not wait.",
        ["warm_up"],
    ),
    (
        "Maps",
        "skfeat.maps",
        "Patches of maps, such as those of convolutions, as rows.",
        ["Patches"],
    ),
    (
        "Language models",
        "skfeat.language",
        "Features and sparse connections across an MLP of a language model.",
        [
            "LayerPair",
            "ModelUnwrapper",
            "ModelReport",
            "PromptGraph",
            "MLPConnector",
            "PairReport",
            "replacement_loss",
            "ReplacementLoss",
            "ablation_effect",
            "AblationEffect",
            "find_connections",
            "read_connection",
            "Connection",
            "Connections",
            "connection_page",
            "explore_pairs",
            "ConnectionPage",
            "feature_tokens",
            "activating_contexts",
            "Contexts",
        ],
    ),
    (
        "Files of other libraries",
        "skfeat.interop",
        "Their autoencoders as fitted :class:`skfeat.SparseAutoencoder`.",
        [
            "read_saelens",
            "write_saelens",
            "read_saelens_transcoder",
            "write_saelens_transcoder",
            "read_circuit_tracer",
            "write_circuit_tracer",
            "read_dictionary_learning",
            "read_sparsify",
            "read_sparsify_transcoder",
            "read_gemma_scope",
            "read_openai",
            "read_tied",
        ],
    ),
    (
        "Sharing",
        "skfeat.sharing",
        "Fitted estimators as folders of safe files; files for sites of features.",
        [
            "save_pretrained",
            "from_pretrained",
            "push_to_hub",
            "model_card",
            "attribution_graph",
            "feature_dashboards",
        ],
    ),
    (
        "Starting values",
        "skfeat.initialization",
        "Where a connector can start.",
        ["product_init"],
    ),
    (
        "Callbacks",
        "skfeat.callbacks",
        "Callbacks of scikit-learn for long fits.",
        ["WarningSummary"],
    ),
    (
        "Testing",
        "skfeat.testing",
        "Checks for classes of your own.",
        ["AnyWidthMLP", "expected_failed_checks"],
    ),
    (
        "Inside: models as chains",
        "skfeat.chain",
        "For those who teach skfeat a model of their own.",
        ["Chain", "Step", "HiddenLayer", "Head", "find_hidden", "merge_scales"],
    ),
    (
        "Inside: reading models",
        "skfeat.adapters",
        "How a fitted model becomes a chain.",
        [
            "read_chain",
            "check_chain",
            "frozen_model",
            "model_outputs",
            "model_classes",
            "check_labels",
            "class_labels",
            "infer_task",
            "head_slices",
            "logits_end",
            "without_wrappers",
            "check_rule",
            "Steps",
        ],
    ),
    (
        "Inside: activations",
        "skfeat.activations",
        "What makes codes sparse, one class each.",
        ["ReLU", "TopK", "JumpReLU"],
    ),
    (
        "Inside: losses",
        "skfeat.losses",
        "Losses of a connector.",
        ["rectified", "rectified_convex"],
    ),
    ("Inside: penalties", "skfeat.penalties", "Penalties of a connector.", ["L1"]),
]

# Their pages are named by the class alone: that is what the link of an estimator's
# HTML representation is made of (skfeat/_base.py).
ESTIMATORS = {
    *("SparseAutoencoder", "Transcoder", "FeatureConnector", "FeatureConnectorCV"),
    *("FeatureEnsemble", "FeatureUnwrapper", "LayerPair", "MLPConnector"),
}


def public_names() -> list[str]:
    """Return the dotted names of the reference, in its order."""
    return [f"{module}.{name}" for _, module, _, names in SECTIONS for name in names]


def page_name(dotted: str) -> str:
    """Return the page of a public name, below ``api/``."""
    name = dotted.rpartition(".")[2]
    if name in ESTIMATORS:
        return name
    # Files of some systems do not tell Capture from capture.
    alike = [other for other in public_names() if other.lower() == dotted.lower()]
    is_class = name[0].isupper() and len(alike) > 1
    return f"{dotted.removeprefix('skfeat.')}{'_class' if is_class else ''}"


def summary(thing) -> str:
    """Return the first sentence of a docstring."""
    lines = inspect.getdoc(thing).split("\n\n")[0].splitlines()
    return " ".join(lines)


def _methods(cls) -> tuple[list[str], list[str]]:
    """Return the public members of a class: skfeat's own, and scikit-learn's."""
    own, inherited = [], []
    for name, member in inspect.getmembers(cls):
        is_code = callable(member) or isinstance(member, property)
        if name.startswith("_") or not is_code or inspect.isclass(member):
            continue
        home = next(base for base in cls.__mro__ if name in vars(base))
        # Requests of metadata are made for every class, by scikit-learn's code.
        if re.fullmatch(r"set_\w+_request|get_metadata_routing", name):
            inherited.append(name)
        elif home.__module__.partition(".")[0] == "skfeat" and inspect.getdoc(member):
            own.append(name)
        elif home.__module__.partition(".")[0] == "sklearn":
            inherited.append(name)
    return own, inherited


def object_page(dotted: str) -> str:
    """Return the page of a class or function, in reStructuredText."""
    module, _, name = dotted.rpartition(".")
    thing = getattr(import_module(module), name)
    lines = [dotted, "=" * len(dotted), "", f".. currentmodule:: {module}", ""]
    if inspect.isclass(thing):
        own, inherited = _methods(thing)
        lines += [f".. autoclass:: {name}", ""]
        lines += [f"   .. auto{_kind(thing, member)}:: {member}" for member in own]
        if inherited:
            listed = ", ".join(f"``{member}``" for member in inherited)
            lines += ["", f"As in every estimator of scikit-learn: {listed}."]
    else:
        lines += [f".. autofunction:: {name}"]
    lines += ["", f".. minigallery:: {dotted}", "   :add-heading: In the gallery"]
    return "\n".join([*lines, ""])


def _kind(cls, member: str) -> str:
    is_method = callable(getattr(cls, member))
    return "method" if is_method else "attribute"


def index_page() -> str:
    """Return the page that lists everything public."""
    lines = ["API reference", "=============", ""]
    lines += ["Everything public. A name that is not here is free to change.", ""]
    seen = set()
    for title, module, what, names in SECTIONS:
        lines += [title, "-" * len(title), ""]
        if module not in seen:
            seen.add(module)
            lines += [f".. py:module:: {module}", ""]
        lines += [f"``{module}``: {what}", ""]
        lines += [".. list-table::", "   :widths: 35 65", "   :class: api-table", ""]
        for name in names:
            dotted = f"{module}.{name}"
            kind = "class" if inspect.isclass(_thing(dotted)) else "func"
            lines += [f"   * - :{kind}:`{dotted}`"]
            lines += [f"     - {summary(_thing(dotted))}"]
        lines += ["", ".. toctree::", "   :hidden:", f"   :caption: {title}", ""]
        lines += [f"   {name} <{page_name(f'{module}.{name}')}>" for name in names]
        lines += [""]
    return "\n".join(lines)


def _thing(dotted: str):
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def write_pages(app) -> None:
    """Write ``docs/api/``; files that would not change keep their time."""
    folder = Path(app.srcdir) / "api"
    pages = {"index": index_page()}
    pages |= {page_name(dotted): object_page(dotted) for dotted in public_names()}
    write_all(folder, {f"{name}.rst": text for name, text in pages.items()})


def write_all(folder: Path, files: dict[str, str]) -> None:
    """Make a folder hold these files and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def resolve_short_name(app, env, node, contnode):
    """Find what a docstring calls by its last name only, as ``TopK``."""
    from sphinx.util.nodes import make_refnode

    if node.get("refdomain") != "py":
        return None
    for dotted in public_names():
        if dotted.rpartition(".")[2] == node.get("reftarget"):
            target = f"api/{page_name(dotted)}"
            return make_refnode(
                app.builder, node["refdoc"], target, dotted, contnode, dotted
            )
    return None


def setup(app):
    """Register with Sphinx."""
    # Before Sphinx looks for source files.
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True}
