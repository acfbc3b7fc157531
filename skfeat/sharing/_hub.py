"""The Hugging Face Hub: two calls of an optional library."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from skfeat import _version

_FILES = ["config.json", "*.npz", "README.md"]


def download(repository: str, revision: str | None) -> Path:
    """Return a folder with the files of a repository, from the library's cache."""
    hub = _import_hub(
        f"There is no folder {repository!r}, and to load it as a repository of the hub "
        f"needs"
    )
    try:
        folder = hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=_FILES,
            library_name="skfeat",
            library_version=_version.__version__,
        )
    except OSError as error:  # of the network, and what the hub has not
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileNotFoundError(
            f"There is no folder {repository!r}, and it cannot be had as a repository "
            f"of the hub: {reason[0].rstrip('.')}."
        ) from error
    return Path(folder)


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Write the files of a folder to a repository, which is made if need be."""
    hub = _import_hub("push_to_hub needs")
    hub.create_repo(repository, private=private, exist_ok=True)
    commit = hub.upload_folder(
        repo_id=repository,
        folder_path=folder,
        allow_patterns=_FILES,
        commit_message=f"Written by skfeat {_version.__version__}",
    )
    return str(getattr(commit, "commit_url", commit))


def _import_hub(why: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(
            f"{why} the package huggingface_hub: pip install 'skfeat[hub]'."
        ) from None
    return huggingface_hub
