"""Tensors in and out, devices and seeded generators."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skfeat.utils._checks import listed
from skfeat.utils._sklearn import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")

# For new tensors: a seed means the same whatever torch's default dtype and device are,
# which belong to the user.
PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Turn the `device` parameter into a device that is present.

    Parameters
    ----------
    device : str, torch.device or None
        ``None`` means the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    InvalidParameterError
        If `device` names no kind of device known to skfeat.
    ValueError
        If the device is known but absent from this machine.
    """
    if device is None:
        return torch.device("cpu")
    allowed = ", ".join(f"'{kind}'" for kind in DEVICE_TYPES)
    try:
        resolved = torch.device(device)
        if resolved.type not in DEVICE_TYPES:
            raise RuntimeError
    except (RuntimeError, TypeError):
        raise InvalidParameterError(
            f"The 'device' parameter must be None or one of {allowed}, with an "
            f"optional index such as 'cuda:0'. Got {device!r} instead."
        ) from None
    if resolved.type != "cpu":
        backend = getattr(torch, resolved.type)
        if (
            not backend.is_available()
            or (resolved.index or 0) >= backend.device_count()
        ):
            raise ValueError(
                f"The 'device' parameter is {str(device)!r}, but this machine has no "
                f"such device; use device='cpu' or device=None."
            )
    return resolved


def check_memory(name: str, value: int, n_bytes: int, device: torch.device) -> None:
    """Refuse a size whose weights alone no memory of the device can hold.

    Parameters
    ----------
    name : str
        The parameter that asks for them.
    value : int
        Its value.
    n_bytes : int
        What the weights take in training, at least.
    device : torch.device

    Raises
    ------
    ValueError
        If there is not so much, free or not.
    """
    there = _memory_of(device)
    if n_bytes > there:
        raise ValueError(
            f"{name}={value} is too large: its weights take at least "
            f"{n_bytes / 2**30:,.0f} GiB in training, and {str(device)!r} has "
            f"{there / 2**30:,.0f} GiB of memory."
        )


def _memory_of(device: torch.device) -> int:
    """Return the bytes of memory that a device has; more than any where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 2**48


@contextmanager
def without_autocast() -> Iterator[None]:
    """Let torch compute in the dtypes of its tensors, whatever its caller has set."""
    with ExitStack() as modes:
        for kind in DEVICE_TYPES:
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def with_gradients() -> Iterator[None]:
    """Let torch train, though its caller may have turned gradients off.

    Programs that only read models do so, once for all.
    """
    with torch.inference_mode(False), torch.enable_grad(), without_autocast():
        yield


@contextmanager
def torch_alone() -> Iterator[None]:
    """Let torch's operations run in the thread that calls them.

    Small ones are no slower so, and round the same whatever the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw_seed(random_state) -> int:
    """Draw one integer seed from a scikit-learn `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def draw_seeds(random_state, n_seeds: int) -> list[int]:
    """Draw a seed for each part of a fit, before any of the parts begins."""
    high = np.iinfo(np.int32).max
    return check_random_state(random_state).randint(high, size=n_seeds).tolist()


def make_generator(seed: int) -> torch.Generator:
    """Make a private CPU generator; the global one is never touched.

    Numbers are always drawn on the CPU, then moved, so that a seed means the same on
    every device.
    """
    return torch.Generator().manual_seed(seed)


def generator_from(state: np.ndarray) -> torch.Generator:
    """Make a private CPU generator that goes on from the state of another."""
    generator = torch.Generator()
    generator.set_state(torch.tensor(state, device="cpu"))
    return generator


def to_numpy(tensor: torch.Tensor, dtype=None) -> np.ndarray:
    """Copy a tensor to a numpy array that shares no memory with it."""
    return np.array(tensor.detach().cpu().numpy(), dtype=dtype, copy=True)


def to_float32(array, device: torch.device, *, trained: bool = False) -> torch.Tensor:
    """Copy an array into a float32 tensor, so that no step can write to the caller's.

    Where it is `trained`, it takes gradients.
    """
    array = np.asarray(array)
    return torch.tensor(
        array, dtype=torch.float32, device=device, requires_grad=trained
    )


def as_like(values, tensor: torch.Tensor) -> torch.Tensor:
    """Return a number or an array as a tensor of the dtype and the device of another.

    Nothing goes by torch's default dtype or device on the way.
    """
    return torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)


def shuffled_batches(
    n_rows: int, batch_size: int, generator: torch.Generator
) -> Iterator[np.ndarray]:
    """Yield the row indices of each batch of one epoch, in shuffled order.

    Batches are of equal size up to one row, as near to `batch_size` as that allows: a
    last batch of a handful of rows would otherwise weigh as much as a whole one.
    """
    order = torch.randperm(n_rows, generator=generator, device="cpu").numpy()
    yield from np.array_split(order, n_batches(n_rows, batch_size))


def n_batches(n_rows: int, batch_size: int) -> int:
    """Return how many batches `shuffled_batches` yields."""
    return max(1, round(n_rows / batch_size))


def epochs_of_updates(n_updates: int, n_rows: int, batch_size: int) -> int:
    """Return how many epochs make so many updates, at least five."""
    return max(5, -(-n_updates // n_batches(n_rows, batch_size)))


@contextmanager
def dtypes_are_told(module: torch.nn.Module) -> Iterator[None]:
    """Say which dtypes a module has that does not run, if they are several.

    Torch's own error has no names. A module that casts values on its way runs.
    """
    try:
        yield
    except RuntimeError as error:
        dtypes: dict[torch.dtype, str] = {}
        for name, tensor in module.named_parameters():
            dtypes.setdefault(tensor.dtype, name)
        if len(dtypes) < 2:
            raise
        found = listed(f"{name!r} is {dtype}" for dtype, name in dtypes.items())
        raise ValueError(
            f"model must run, or have parameters of one dtype, which model.float() "
            f"gives it; {found} ({error})."
        ) from error
