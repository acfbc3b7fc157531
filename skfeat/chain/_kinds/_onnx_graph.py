"""ONNX operators as plain lists, so that a step can name its own without onnx."""

from __future__ import annotations

from typing import Any

import numpy as np


class OnnxGraph:
    """Operators in order; each reads the last result unless it names its inputs.

    Parameters
    ----------
    source : str
        Name of the input.

    Attributes
    ----------
    last : str
        Name of the last result.
    nodes : list of (str, list of str, list of str, dict)
        Operator, names of its inputs, names of its outputs, and its attributes.
    constants : dict of str to ndarray
    """

    def __init__(self, source: str):
        self.last = source
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, array: np.ndarray) -> str:
        """Store an array, floats in float32; return its name in the graph."""
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = f"{name}_{len(self.constants)}"
        self.constants[name] = np.asarray(array, order="C")
        return name

    def number(self, value: float) -> str:
        """Store a number; one beyond float32 becomes the largest of float32."""
        largest = np.finfo(np.float32).max
        return self.constant(
            "number", np.array(np.clip(value, -largest, largest), float)
        )

    def add(
        self,
        operator: str,
        *others: str,
        output: str = "",
        n_outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Add an operator on the last result and others; return its result's name."""
        return self.add_on(
            operator,
            self.last,
            *others,
            output=output,
            n_outputs=n_outputs,
            **attributes,
        )

    def add_on(
        self,
        operator: str,
        *inputs: str,
        output: str = "",
        n_outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Add an operator; a second output has the name of the first and ``_1``."""
        self.last = output or f"{operator}_{len(self.nodes)}"
        outputs = [self.last, *(f"{self.last}_{i}" for i in range(1, n_outputs))]
        self.nodes.append((operator, list(inputs), outputs, attributes))
        return self.last
