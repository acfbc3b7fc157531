"""What differs between the releases of numba and LLVM, and nothing else.

When a new release breaks something, begin here. This module imports numba.
"""

from __future__ import annotations

from llvmlite import ir
from llvmlite.binding import llvm_version_info
from numba.core import config
from numba.core.codegen import get_host_cpu_features

# Since LLVM 22 the products of eight-bit integers take vectors of bytes; earlier
# releases take vectors of 32-bit integers with four bytes each. The bits are the same.
_TAKES_BYTES = llvm_version_info >= (22,)


def dot_operands(n_sums: int) -> ir.VectorType:
    """Return the type of the operands of ``vpdpbusd`` for `n_sums` sums of four."""
    if _TAKES_BYTES:
        return ir.VectorType(ir.IntType(8), 4 * n_sums)
    return ir.VectorType(ir.IntType(32), n_sums)


def pointer_to(value: ir.Type) -> ir.Type:
    """Return the type of pointers to a value.

    Pointers of LLVM have no type since release 15. Those of llvmlite may have one: it
    determines what a load reads, and numba's own code passes such pointers.
    """
    return value.as_pointer()


def processor_features() -> list[str]:
    """Return the features of the processor that numba compiles for, as ``+name``."""
    features = getattr(config, "CPU_FEATURES", None)
    if features is None:
        features = get_host_cpu_features()
    return features.split(",")
