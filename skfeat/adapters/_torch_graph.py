"""Read the graph of a custom forward as operations: each node from its values."""

import builtins
import math
import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from skfeat.adapters._torch_branches import Branches, Node, Value
from skfeat.adapters._torch_choices import Choices
from skfeat.adapters._torch_ops import (
    POSITIONAL,
    Op,
    call_label,
    call_op,
    conv_op,
    module_op,
    norm_op,
    refusal,
    scale,
    sequence,
)
from skfeat.adapters._torch_tidy import tidy
from skfeat.adapters._torch_trace import Traced
from skfeat.adapters._torch_unregistered import user_path

_ATTENTION = F.scaled_dot_product_attention
_OF_SEQUENCES = (
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
    nn.RNNCellBase,
)
_NAMESPACES = (torch, F, operator, torch.special, torch._C._nn)
_CONCATENATIONS = ("cat", "concat", "concatenate", "hstack")
# What a sum or difference takes its operands times, alpha being one by default.
_SUMS: dict[str, Any] = {
    "add": lambda alpha: (1.0, alpha),
    "sub": lambda alpha: (1.0, -alpha),
    "subtract": lambda alpha: (1.0, -alpha),
    "rsub": lambda alpha: (-alpha, 1.0),
    "neg": lambda alpha: (-1.0, 0.0),
    "negative": lambda alpha: (-1.0, 0.0),
}
_PRODUCTS = ("mul", "multiply")
_QUOTIENTS = ("truediv", "div", "divide", "true_divide")


def read_graph(root: nn.Module, traced: Traced) -> tuple[list[Op], list[str]]:
    """Return the operations of a forward, and the names of its heads if several."""
    return _Reader(root, traced).read(traced.graph)


class _Reader:
    """Reads each node of a graph, in its order, as a value computed from others."""

    def __init__(self, root: nn.Module, traced: Traced) -> None:
        self.modules, self.axes = traced.modules, traced.axes or {}
        self.paths = {id(p): path for path, p in root.named_parameters()}
        self.tensors = traced.tensors
        self.sizes: dict[Any, Any] = {}  # node of a size: its dimension; None: all
        self.pieces: dict[Node, tuple[Node, dict]] = {}  # what a chunk cuts, and how
        self.values: dict[Node, Value] = {}
        self.choices = Choices(self.values, self._constant)

    def read(self, graph: torch.fx.Graph) -> tuple[list[Op], list[str]]:
        self._check_positions(graph)
        tidy(graph, self.modules)
        names: list[str] = []
        for node in graph.nodes:
            if node.op == "placeholder":
                self.values[node] = Value([], Op(""))
            elif node.op == "output":
                names = self._take_output(node)
            elif not (node.op == "get_attr" or self._is_size(node) or _fields(node)):
                self._take(node)
        return Branches(self.values, node).read(), names

    def _check_positions(self, graph: torch.fx.Graph) -> None:
        """Raise TypeError if attention or recurrence is used.

        Else what a model does to its rows before would be named, such as a transpose,
        and not what it does it for.
        """
        for node in graph.nodes:
            module = self.modules.get(node.target) if node.op == "call_module" else None
            if isinstance(module, _OF_SEQUENCES) or node.target is _ATTENTION:
                raise refusal(self._label(node)[0])

    def _take_output(self, node: Node) -> list[str]:
        outputs = list(_outputs(node.args[0], ""))
        values = [value for _, value in outputs]
        if not values or not self._are_values(values):
            raise refusal("an output that is not computed from the input")
        self._join(node, "concatenate", values)
        return [name for name, _ in outputs] if len(outputs) > 1 else []

    def _take(self, node: Node) -> None:
        """Note what a node computes, and from which values."""
        what, function = self._label(node)
        rest = dict(zip(POSITIONAL.get(function, ()), node.args[1:], strict=False))
        rest |= node.kwargs
        if function in ("chunk", "split"):
            self._take_pieces(node, what, function, rest)
        elif function == "getitem":
            self._take_columns(node, what)
        elif function in _CONCATENATIONS:
            self._take_concatenation(node, what, function)
        elif function in (*_SUMS, *_PRODUCTS, *_QUOTIENTS):
            self._take_arithmetic(node, what, function)
        elif function in ("pow", "square"):
            self._single(node, what, call_op(function, rest, self._path(node), what))
        elif function in ("conv1d", "conv2d"):
            self._take_convolution(node, what, function, rest)
        elif function in ("matmul", "mm", "addmm", "linear"):
            self._take_linear(node, what, function, rest)
        elif function in ("layer_norm", "rms_norm", "prelu"):
            self._take_weighted(node, what, function, rest)
        elif not self.choices.take(node, what, function, rest):
            self._check_single(node, what)
            rest = {name: self._number(part) for name, part in rest.items()}
            self._single(node, what, self._op(node, what, function, rest))

    def _number(self, argument: Any) -> Any:
        """Return the number that a constant tensor of one entry holds."""
        is_node = isinstance(argument, Node)
        tensor = self.tensors.get(argument) if is_node else None
        return argument if tensor is None or tensor.numel() != 1 else tensor.item()

    def _check_single(self, node: Node, what: str) -> Any:
        """Return the one value that a node reads, or raise TypeError."""
        first: Any = node.args[0] if node.args else node.kwargs.get("input")
        constants = (
            self.tensors.keys() | self.sizes.keys() | self.choices.numbers.keys()
        )
        if [n for n in node.all_input_nodes if n not in constants] != [first]:
            raise refusal(f"{what}, which reads more than one value")
        if first not in self.values:
            raise refusal(f"{what} of anything but a value")
        return first

    def _single(self, node: Node, what: str, op: Op) -> None:
        self.values[node] = Value([self._check_single(node, what)], op)

    def _join(self, node: Node, kind: str, inputs: list, after: Any = None) -> None:
        if len(inputs) == 1:
            self.values[node] = Value(inputs, Op(""))
            return
        op = Op(kind, self._path(node))
        self.values[node] = Value(inputs, op, after or [()] * len(inputs))

    def _are_values(self, operands: Any) -> bool:
        is_list = isinstance(operands, list | tuple) and len(operands) > 0
        return is_list and all(
            isinstance(operand, Node) and operand in self.values for operand in operands
        )

    def _path(self, node: Node) -> str:
        """Path of the module in whose forward the operation stands."""
        modules = list(node.meta.get("nn_module_stack", {}).values())
        return user_path(modules[-1][0]) if modules else ""

    def _label(self, node: Node) -> tuple[str, str]:
        """Return what to call the node in a message and the function it calls."""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            return call_label(module, user_path(str(node.target))), ""
        name = getattr(node.target, "__name__", str(node.target))
        name = name.removeprefix("special_")
        # A user's own function may be called relu.
        public = [getattr(space, name, None) for space in _NAMESPACES]
        is_known = node.op == "call_method" or node.target in public
        return f"the operation {name!r}", name.rstrip("_") if is_known else ""

    def _is_size(self, node: Node) -> bool:
        match node.op, node.target, node.args:
            case "call_method", "size", (_, *dim):
                self.sizes[node] = dim[0] if dim else node.kwargs.get("dim")
            case "call_function", builtins.getattr, (_, "shape" | "dtype" | "device"):
                self.sizes[node] = None
            case "call_function", operator.getitem, (shape, int() as dim):
                if shape in self.sizes:
                    self.sizes[node] = dim
        return node in self.sizes

    def _op(self, node: Node, what: str, function: str, rest: dict) -> Op:
        if node.op == "call_module":
            path = str(node.target)
            module = self.modules[path]
            if module in self.axes:
                shape = self.axes[module]
                if shape is None:
                    raise refusal(f"{what}, which changes the order of values")
                is_map = len(shape) > 1
                return Op("", width=math.prod(shape), shape=shape if is_map else None)
            return module_op(module, user_path(path))
        arguments = list(node.args[1:])
        if function in ("view", "reshape"):
            return self._reshape(arguments or list(node.kwargs.values()), what)
        if function in ("to", "type") and all(map(self._is_float, arguments)):
            return Op("")
        return call_op(function, rest, "", what)

    def _is_float(self, argument: Any) -> bool:
        """Whether a cast to this leaves the values what they are."""
        if isinstance(argument, torch.dtype):
            return argument.is_floating_point
        is_node = isinstance(argument, Node)
        constant = is_node and (argument in self.tensors or argument in self.sizes)
        return constant or isinstance(argument, torch.device | str)

    def _take_arithmetic(self, node: Node, what: str, function: str) -> None:
        """Read a sum, product or quotient of two values, or of one and a constant."""
        left: Any
        right: Any
        left, right = (*node.args, node.kwargs.get("other", 0.0))[:2]
        alpha = node.kwargs.get("alpha", 1)
        if set(node.kwargs) - {"other", "alpha"} or not isinstance(alpha, int | float):
            raise refusal(f"{what} with the arguments {sorted(node.kwargs)}")
        factors = _SUMS[function](float(alpha)) if function in _SUMS else (1.0, 1.0)
        if self._are_values([left, right]):
            after = [() if f == 1 else (scale(f, 0.0),) for f in factors]
            if function in _QUOTIENTS:
                after[1] = (Op("reciprocal"),)
            kind = "add" if function in _SUMS else "multiply"
            is_product = function in _PRODUCTS
            if is_product and self.choices.take_product(node, left, right):
                return
            self._join(node, kind, [left, right], after)
            return
        is_left = self._are_values([left])
        value, constant = (left, right) if is_left else (right, left)
        number = self._constant(constant)
        if not self._are_values([value]) or number is None:
            raise refusal(f"{what} of anything but values and constants")
        if function in _SUMS:
            own, other = factors if is_left else factors[::-1]
            op = scale(own, number * other)
        elif function in _PRODUCTS:
            op = scale(number, 0.0)
        elif is_left:
            is_zero = type(number) is float and not number
            op = scale(math.inf if is_zero else 1 / number, 0.0)
        else:
            op = sequence(Op("reciprocal"), scale(number, 0.0))
        self.values[node] = Value([value], op)

    def _constant(self, operand: Any) -> float | torch.Tensor | None:
        """Return a number, or a tensor with one entry for all columns or for each."""
        if isinstance(operand, int | float):
            return float(operand)
        if operand in self.choices.numbers:
            return self.choices.numbers[operand]
        tensor = self.tensors.get(operand) if isinstance(operand, Node) else None
        if tensor is None or tensor.numel() != (tensor.shape or (1,))[-1]:
            return None
        if not tensor.shape and not tensor.is_floating_point():
            return float(tensor)
        return tensor.reshape(-1) if tensor.is_floating_point() else None

    def _take_concatenation(self, node: Node, what: str, function: str) -> None:
        operands: Any
        operands, *rest = (*node.args, *node.kwargs.values())
        is_columns = function == "hstack" or rest in ([1], [-1])
        if not is_columns or not self._are_values(operands):
            raise refusal(f"{what} of anything but the columns of values")
        self._join(node, "concatenate", list(operands))

    def _take_linear(self, node: Node, what: str, function: str, rest: dict) -> None:
        """Read x @ W, addmm(b, x, W) or linear(x, W, b) with constant W and b."""
        x: Any
        if function == "linear":
            x = node.args[0] if node.args else rest.get("input")
            given = {"weight": rest.get("weight"), "bias": rest.get("bias")}
        elif function == "addmm" and len(node.args) == 3:
            bias, x, weight = node.args
            given = {"weight": weight, "bias": bias}
        else:
            x, weight = (*node.args, None, None)[:2]
            given = {"weight": weight}
        parts: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        if set(node.kwargs) & {"alpha", "beta"} or not self._are_values([x]):
            raise refusal(f"{what} of anything but a value and a matrix")
        if "weight" not in parts or not self.tensors.keys() >= set(parts.values()):
            raise refusal(f"{what} whose weight is not a constant")
        found = {name: self.tensors[part] for name, part in parts.items()}
        if found["weight"].ndim != 2:
            raise refusal(f"{what} of anything but a value and a matrix")
        path = self.paths.get(id(found["weight"]), self._path(node))
        if function != "linear":
            found["weight"] = found["weight"].T
        op = Op("linear", path.removesuffix(".weight"), {}, lambda: found)
        self.values[node] = Value([x], op)

    def _take_convolution(
        self, node: Node, what: str, function: str, rest: dict
    ) -> None:
        """Read a convolution called as a function, with constant weights."""
        parts = {
            k: v for k in ("weight", "bias") if (v := rest.pop(k, None)) is not None
        }
        if not self.tensors.keys() >= set(parts.values()):
            raise refusal(f"{what} whose weight is not a constant")
        found = {name: self.tensors[part] for name, part in parts.items()}
        rest.pop("input", None)
        n_axes = found["weight"].ndim - 2
        op = conv_op(n_axes, rest, self._path(node), what, lambda: found)
        self._single(node, what, op)

    def _take_weighted(self, node: Node, what: str, function: str, rest: dict) -> None:
        """Read a norm or a PReLU called as a function, with constant weights."""
        parts = {k: v for k in ("weight", "bias") if (v := rest.get(k)) is not None}
        if not self.tensors.keys() >= set(parts.values()):
            raise refusal(f"{what} whose weight is not a constant")
        found = {name: self.tensors[part] for name, part in parts.items()}
        if function == "prelu":
            op = Op("prelu", self._path(node), {}, lambda: found)
        else:
            shape = tuple(rest.get("normalized_shape", ()))
            if len(shape) != 1 or not isinstance(shape[0], int):
                raise refusal(f"{what} over anything but the columns")
            eps = rest.get("eps", 1e-5 if function == "layer_norm" else None)
            op = norm_op(function, self._path(node), shape, eps, lambda: found)
        self._single(node, what, op)

    def _take_pieces(self, node: Node, what: str, function: str, rest: dict) -> None:
        """Note a chunk or split; its pieces are taken one by one."""
        names = ("chunks", "size", "split_size", "split_size_or_sections")
        pieces = next((rest[name] for name in names if name in rest), None)
        sizes = pieces if isinstance(pieces, list | tuple) else [pieces]
        is_plain = all(type(size) is int and size > 0 for size in sizes)
        source = node.args[0] if node.args else rest.get("input")
        if not is_plain or rest.get("dim") not in (1, -1):
            raise refusal(f"{what} of anything but columns")
        if not self._are_values([source]):
            raise refusal(f"{what} of anything but a value")
        settings = {"chunks" if function == "chunk" else "size": pieces}
        self.pieces[node] = source, settings  # type: ignore[assignment]

    def _take_columns(self, node: Node, what: str) -> None:
        """Read x[:, 1:3], x[:, 1] or one of the pieces of a chunk."""
        source: Any
        index: Any
        source, index = node.args
        if source in self.pieces and type(index) is int:
            value, settings = self.pieces[source]
            op = Op("chunk", settings=settings | {"index": index})
            self.values[node] = Value([value], op)
            return
        whole, columns = index if type(index) is tuple and len(index) == 2 else (0, 0)
        if type(columns) is int:
            columns = slice(columns, columns + 1 or None)
        if not isinstance(columns, slice):
            columns = slice(0, 0, 0)
        bounds = (columns.start, columns.stop)
        is_plain = all(bound is None or type(bound) is int for bound in bounds)
        is_whole = whole is Ellipsis or whole == slice(None)
        if not (is_plain and is_whole and columns.step in (None, 1)):
            raise refusal(f"{what} of anything but consecutive columns")
        settings = dict(zip(("start", "stop"), bounds, strict=True))
        self._single(node, what, Op("columns", settings=settings))

    def _reshape(self, dims: list[Any], what: str) -> Op:
        """Accept what leaves a 2-D array as it is, or makes one column a 1-D array.

        So it does what makes maps of rows.
        """
        if len(dims) == 1 and isinstance(dims[0], tuple | list):
            dims = list(dims[0])
        sizes = {0: "rows", -2: "rows", 1: "columns", -1: "columns"}
        match [sizes.get(self.sizes[d], d) if d in self.sizes else d for d in dims]:
            case ["rows", -1 | "columns"] | [-1, "columns"]:
                return Op("")
            case ["rows" | -1, int() as width] if width > 0:
                return Op("", width=width)
            case ["rows" | -1]:
                return Op("", width=1)
            case ["rows" | -1, *shape] if len(shape) in (2, 3) and all(
                type(size) is int and size > 0 for size in shape
            ):
                return Op("", width=math.prod(shape), shape=tuple(shape))
        raise refusal(what)


def _outputs(output: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield what a forward returns, each tensor with its key or position."""
    if isinstance(output, Node) and (fields := _fields(output)):
        output = dict(zip(fields, output.args, strict=False)) | output.kwargs
    if isinstance(output, dict):
        pairs = [(str(key), value) for key, value in output.items()]
    elif isinstance(output, list | tuple):
        pairs = [(str(i), value) for i, value in enumerate(output)]
    elif output is not None:
        yield name, output
        return
    else:
        return
    for key, value in pairs:
        yield from _outputs(value, f"{name}.{key}" if name else key)


def _fields(node: Node) -> tuple[str, ...]:
    """Return the names in a named tuple that the node makes; none of any other."""
    is_tuple = isinstance(node.target, type) and issubclass(node.target, tuple)
    return getattr(node.target, "_fields", ()) if is_tuple else ()
