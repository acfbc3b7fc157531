"""Torch models with skips, gates, several heads and wrappers, read as chains."""

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skfeat.adapters import check_chain, infer_task, model_outputs, read_chain
from tests.adapters.test_torch_reader import Custom, assert_untouched, snapshot

X = np.random.default_rng(0).normal(size=(40, 4))


class Residual(nn.Module):
    """x + f(x), with a norm before f or after the sum, and a projection if need be."""

    def __init__(self, body, n_in, n_out, norm=nn.Identity, post=False):
        super().__init__()
        self.body, self.post = body, post
        self.skip = nn.Linear(n_in, n_out) if n_in != n_out else nn.Identity()
        self.norm = norm(n_out if post else n_in)

    def forward(self, x):
        if self.post:
            return self.norm(self.skip(x) + self.body(x))
        return self.skip(x) + self.body(self.norm(x))


class Joined(nn.Module):
    """Two modules side by side, or multiplied."""

    def __init__(self, left, right, kind):
        super().__init__()
        self.left, self.right, self.kind = left, right, kind

    def forward(self, x):
        if self.kind == "multiply":
            return self.left(x) * self.right(x)
        return torch.cat([self.left(x), x, self.right(x)], dim=-1)


class Named(NamedTuple):
    mean: torch.Tensor
    scale: torch.Tensor


class Heads(nn.Module):
    def __init__(self, kind, heads=None, trunk=None):
        super().__init__()
        self.kind = kind
        self.trunk = trunk or nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.heads = heads or nn.ModuleList([nn.Linear(6, 2), nn.Linear(6, 1)])

    def forward(self, x):
        h = self.trunk(x)
        a, b = (head(h) for head in self.heads)
        if self.kind == "named":
            return Named(a, scale=b)
        if self.kind == "squeezed":
            return a, b.squeeze(-1), None
        kinds = {"dict": {"mean": a, "scale": b}, "tuple": (a, b), "list": [a, b]}
        return {**kinds, "nested": {"mean": a, "rest": (b, h)}}[self.kind]


def mlp(n_in, n_hidden, n_out, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), activation(), nn.Linear(n_hidden, n_out)
    )


ACTIVATIONS = [
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.RReLU,
    nn.ELU,
    lambda: nn.CELU(0.5),
    nn.SELU,
    nn.GELU,
    lambda: nn.GELU("tanh"),
    nn.SiLU,
    nn.Mish,
    lambda: nn.Softplus(2.0, 3.0),
    nn.Softsign,
    nn.Tanh,
    lambda: nn.Hardtanh(-0.3, 0.8),
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Tanhshrink,
    lambda: nn.Softshrink(0.2),
    lambda: nn.Hardshrink(0.2),
    lambda: nn.PReLU(init=0.3),
    lambda: nn.PReLU(6, init=-0.2),
    lambda: nn.GLU(dim=1),
    nn.Dropout1d,
    nn.FeatureAlphaDropout,
    lambda: nn.Softmax(dim=-1),
]
NORMS = [
    nn.BatchNorm1d,
    nn.SyncBatchNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    lambda n: nn.RMSNorm(n, elementwise_affine=False),
    lambda n: nn.GroupNorm(1 if n % 2 else 2, n),
    lambda n: nn.GroupNorm(1, n, affine=False),
]


@pytest.mark.parametrize("make", ACTIVATIONS)
def test_activations(make):
    torch.manual_seed(0)
    activation = make()
    width = 3 if isinstance(activation, nn.GLU) else 6
    model = nn.Sequential(
        nn.Linear(4, 6), activation, nn.Sequential(nn.ReLU(), nn.Linear(width, 2))
    ).double()
    chain = read_chain(model)
    np.testing.assert_allclose(
        chain.forward(3 * X), model_outputs(model, 3 * X), rtol=1e-6, atol=1e-9
    )
    if not isinstance(activation, nn.Dropout1d | nn.FeatureAlphaDropout):
        # A gate gives way to the activation behind it.
        stop = 3 if isinstance(activation, nn.GLU) else 2
        assert [layer.stop for layer in chain.hidden] == [stop]
        assert chain.hidden[0].n_units == width


def _highway(x, gate):
    return x * gate + x.tanh() * (1 - gate)


def _experts(gates, first, second):
    return gates[:, 0:1] * first + gates[:, 1:] * second


FUNCTIONS = {
    "relu6": F.relu6,
    "rrelu": F.rrelu,
    "celu": lambda x: F.celu(x, 0.5),
    "selu": F.selu,
    "mish": F.mish,
    "softplus": lambda x: F.softplus(x, 2.0, threshold=3.0),
    "hardtanh": lambda x: F.hardtanh(x, -0.2, 0.4),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp min": lambda x: torch.clamp(x, min=0),
    "logsigmoid": F.logsigmoid,
    "hardswish": F.hardswish,
    "softshrink": lambda x: F.softshrink(x, lambd=0.1),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.3])),
    "sin": lambda x: torch.sin(30 * x),
    "square": lambda x: x**2,
    "cube": lambda x: x * x * x,
    "swish": lambda x: x * torch.sigmoid(1.7 * x),
    "expit": torch.special.expit,
    "glu": lambda x: torch.cat([F.glu(x), x[:, 3:]], dim=1),
    "feature dropout": lambda x: F.feature_alpha_dropout(x).relu(),
    "layer norm": lambda x: F.layer_norm(x, (6,)).relu(),
    "layer norm with weights": lambda x: F.layer_norm(
        x, (6,), weight=torch.arange(6.0), bias=torch.ones(6)
    ).relu(),
    "rms norm": lambda x: F.rms_norm(x, [6], eps=1e-3).relu(),
    "arithmetic": lambda x: (1 - (x - torch.arange(6.0)) / 3 * torch.ones(1, 6)).relu(),
    "negated": lambda x: -torch.add(x, torch.ones(6), alpha=2).relu(),
    "subtracted": lambda x: torch.sub(x, x.relu(), alpha=3),
    "reversed": lambda x: torch.rsub(x, 2.0).relu() + torch.rsub(x, x.relu()),
    "matmul": lambda x: (x @ torch.eye(6)[:, :5] @ torch.ones(5, 6)).relu(),
    "addmm": lambda x: torch.addmm(torch.ones(6), x, torch.eye(6)).relu(),
    "split": lambda x: torch.cat([p.relu() for p in x.split([1, 2, 3], dim=-1)], 1),
    "split evenly": lambda x: torch.hstack([x.split(4, 1)[i].relu() for i in (1, 0)]),
    "chunk": lambda x: torch.cat([p.tanh() for p in x.chunk(3, dim=1)][::-1], -1),
    "columns": lambda x: torch.cat([x[:, -2:].relu(), x[..., :4]], axis=1),
    "quotients": lambda x: (2 / (1 + x.exp())) / (1 + x**2),
    "rms by hand": lambda x: (
        x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3) * torch.arange(6.0)
    ).relu(),
    "norm by hand": lambda x: F.gelu(
        (x - x.mean(dim=1, keepdim=True))
        / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
    ),
    "highway": lambda x: _highway(x.relu(), torch.sigmoid(x)),
    "experts": lambda x: _experts(F.softmax(x[:, :2], dim=-1), x.tanh(), x.relu()),
    "inplace": lambda x: (x.relu_(), x)[1],
    "inplace function": lambda x: (F.leaky_relu(x, 0.1, True), x)[1],
    "casts": lambda x: x.to(torch.ones(1)).type(torch.float32).relu(),
    "dimensions": lambda x: x.relu() if x.dim() == 2 and x.ndim == 2 else x,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_functions(function):
    torch.manual_seed(0)
    model = Custom(lambda s, x: s.fc2(function(s.fc1(x))))
    before = snapshot(model)
    chain = read_chain(model)
    assert_untouched(model, before)
    check_chain(chain, model, X)
    assert len(chain.hidden) >= 1


def test_handwritten_blocks_have_names():
    blocks = [Residual(mlp(6, 8, 6), 6, 6, nn.LayerNorm) for _ in range(2)]
    model = nn.Sequential(nn.Linear(4, 6), *blocks, nn.LayerNorm(6), nn.Linear(6, 2))
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert [layer.name for layer in chain.hidden] == ["1", "2"]
    assert [layer.aliases for layer in chain.hidden] == [(), ("3",)]
    assert chain.inner_names[:3] == ["1.norm", "1.body.0", "1.body.1"]
    stream = model[:2](torch.tensor(X, dtype=torch.float32)).detach()
    found = chain.forward(X.astype("f4"), 0, chain.hidden[0].stop)
    np.testing.assert_allclose(found, stream, rtol=1e-5, atol=1e-6)


def test_a_loop_in_the_forward_names_its_blocks():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(4, 6)
            self.blocks = nn.ModuleList([mlp(6, 8, 6) for _ in range(3)])
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = x + block(x)
            return self.head(x)

    chain = read_chain(Loop())
    assert [layer.name for layer in chain.hidden] == [f"blocks.{i}" for i in range(3)]


def test_a_gated_layer():
    class SwiGLU(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.w3 = nn.Linear(4, 8), nn.Linear(4, 8)
            self.w2 = nn.Linear(8, 3)

        def forward(self, x):
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    model = SwiGLU()
    chain = read_chain(model)
    check_chain(chain, model, X)
    (layer,) = chain.hidden
    assert (layer.n_units, layer.name) == (8, "hidden_0")


class Dense(nn.Module):
    """Each layer reads all results before it: no branches, values are handed on."""

    def __init__(self):
        super().__init__()
        widths = [(4, 3), (7, 3), (10, 2)]
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in widths])
        self.out = nn.Linear(12, 2)

    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(torch.relu(layer(torch.cat(found, 1))))
        return self.out(torch.cat(found, dim=1))


class Crossed(nn.Module):
    """A skip that starts inside another and ends outside it."""

    def __init__(self):
        super().__init__()
        self.f, self.g, self.h = (nn.Linear(4, 4) for _ in range(3))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        y = self.f(x).relu()
        z = self.g(y).tanh() + x
        w = self.h(z).relu() * y
        return self.out(w + z)


@pytest.mark.parametrize("cls", [Dense, Crossed])
def test_values_used_across_branches_are_computed_once(cls):
    model = cls().double()
    chain = read_chain(model)
    np.testing.assert_allclose(chain.forward(X), model_outputs(model, X), rtol=1e-9)
    weights = [p.numel() for name, p in model.named_parameters() if "weight" in name]
    assert chain.n_multiply_adds() == sum(weights)
    T = torch.tensor(X)
    torch.testing.assert_close(chain.forward_torch(T), model(T))


def test_inplace_in_a_residual_block_changes_the_skip_too():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(6, 6)

        def forward(self, x):
            out = self.fc(self.act(x))
            return x + out

    model = nn.Sequential(nn.Linear(4, 6), Block(), nn.Linear(6, 2))
    check_chain(read_chain(model), model, X)


@st.composite
def random_module(draw, n_in, n_out, depth=2):
    """Draw a module of any nesting that takes n_in values and gives n_out."""
    kinds = ["mlp", "sequential", "residual", "multiply", "concatenate"]
    kind = draw(st.sampled_from(kinds if depth else kinds[:1]))
    width = draw(st.integers(1, 6))
    activation = draw(st.sampled_from(ACTIVATIONS[:22]))
    norm = draw(st.sampled_from([nn.Identity, nn.Identity, *NORMS]))
    if kind == "mlp":
        first, last = nn.Linear(n_in, width), nn.Linear(width, n_out)
        return nn.Sequential(first, norm(width), activation(), nn.Dropout(), last)
    inner = random_module(n_in, width, depth - 1)
    if kind == "sequential":
        last = draw(random_module(width, n_out, depth - 1))
        return nn.Sequential(draw(inner), norm(width), activation(), last)
    if kind == "residual":
        body, post = draw(random_module(n_in, n_out, depth - 1)), draw(st.booleans())
        return Residual(body, n_in, n_out, norm, post)
    if kind == "multiply":
        return nn.Sequential(
            Joined(draw(inner), draw(inner), kind), norm(width), nn.Linear(width, n_out)
        )
    joined = Joined(draw(inner), draw(inner), kind)
    return nn.Sequential(joined, nn.Linear(2 * width + n_in, n_out))


def with_statistics(model):
    """Give every norm weights and running statistics that are not the initial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.SyncBatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
        if not isinstance(module, nn.Linear) and hasattr(module, "weight"):
            for parameter in (module.weight, getattr(module, "bias", None)):
                if parameter is not None:
                    nn.init.normal_(parameter)
    return model


@given(random_module(4, 5), random_module(5, 5), st.integers(0, 2**16))
def test_any_nesting(front, back, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), front, nn.GELU(), back)
    model = with_statistics(copy.deepcopy(model)).double()
    before = snapshot(model)
    chain = read_chain(model, 4)
    assert_untouched(model, before)
    expected = model_outputs(model, X)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        chain.forward(X), expected, rtol=1e-6, atol=1e-6 * max(scale, 1)
    )
    check_chain(chain, model, X)
    names = [layer.name for layer in chain.hidden]
    assert len(names) == len(set(names)) >= 1


@pytest.mark.parametrize(
    ("kind", "heads"),
    [
        ("dict", {"mean": (0, 2), "scale": (2, 3)}),
        ("named", {"mean": (0, 2), "scale": (2, 3)}),
        ("tuple", {"0": (0, 2), "1": (2, 3)}),
        ("list", {"0": (0, 2), "1": (2, 3)}),
        ("squeezed", {"0": (0, 2), "1": (2, 3)}),
        ("nested", {"mean": (0, 2), "rest.0": (2, 3), "rest.1": (3, 9)}),
    ],
)
def test_heads(kind, heads):
    model = Heads(kind)
    chain = read_chain(model, 4)
    check_chain(chain, model, X)
    assert {head.name: (head.start, head.stop) for head in chain.heads} == heads
    assert [layer.name for layer in chain.hidden] == ["trunk.0"]
    assert infer_task(model) == "regression"
    with torch.no_grad():
        output = model(torch.tensor(X, dtype=torch.float32))
    first = next(iter(output.values())) if isinstance(output, dict) else output[0]
    np.testing.assert_allclose(chain.forward(X)[:, :2], first, rtol=1e-4, atol=1e-6)


def test_heads_with_layers_of_their_own():
    heads = nn.ModuleList(
        [mlp(6, 5, 2), nn.Sequential(mlp(6, 3, 3), nn.Softmax(dim=1))]
    )
    model = Heads("dict", heads)
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert [layer.name for layer in chain.hidden] == ["trunk.0"]
    assert "heads.0.0" in chain.inner_names
    assert infer_task(model) == "classification"


def test_wrappers():
    model = mlp(4, 6, 2)
    expected = read_chain(model).forward(X)
    for wrapped in (
        nn.DataParallel(model),
        torch.compile(model, backend="eager"),
        torch.compile(nn.DataParallel(model), backend="eager"),
        torch.fx.symbolic_trace(model),
        nn.Sequential(nn.DataParallel(model)),
        torch.optim.swa_utils.AveragedModel(model),
    ):
        chain = read_chain(wrapped)
        np.testing.assert_array_equal(chain.forward(X), expected)
        check_chain(chain, wrapped, X)
    assert [layer.name for layer in read_chain(nn.DataParallel(model)).hidden] == ["0"]
    inner = nn.Sequential(Residual(model, 4, 2), nn.DataParallel(mlp(2, 3, 2)))
    check_chain(read_chain(inner), inner, X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_module_inside_is_named():
    inner = torch.jit.script(mlp(4, 6, 4))
    for model in (nn.Sequential(inner, nn.ReLU()), Residual(inner, 4, 4)):
        with pytest.raises(TypeError, match=r"layer '\w+' \(RecursiveScriptModule\)"):
            read_chain(model)


def test_lazy_modules_in_blocks():
    body = nn.Sequential(nn.LazyBatchNorm1d(), nn.LazyLinear(6), nn.ReLU())
    model = nn.Sequential(Residual(body, 4, 6), nn.LazyLinear(2))
    with pytest.raises(ValueError, match=r"layer '0.body.0' is not initialised yet"):
        read_chain(model)
    assert isinstance(model[1], nn.LazyLinear)
    model(torch.ones(3, 4))
    check_chain(read_chain(model), model, X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    model = nn.Sequential(
        Residual(mlp(4, 6, 6, nn.GELU), 4, 6, nn.LayerNorm), nn.Tanh(), nn.Linear(6, 2)
    ).to(dtype)
    chain = read_chain(model)
    assert chain.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    check_chain(chain, model, X)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parametrized_and_shared_weights():
    class Symmetric(nn.Module):
        def forward(self, weight):
            return weight.triu() + weight.triu(1).T

    shared = nn.Linear(6, 6)
    nn.utils.parametrize.register_parametrization(shared, "weight", Symmetric())
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))
    spectral = nn.utils.spectral_norm(nn.Linear(6, 6))
    model = nn.Sequential(
        normed,
        Residual(shared, 6, 6),
        Residual(shared, 6, 6),
        spectral,
        nn.ReLU(),
        shared,
    )
    before = snapshot(model)
    chain = read_chain(model)
    assert_untouched(model, before)
    check_chain(chain, model, X)
    assert [layer.name for layer in chain.hidden] == ["1", "2", "3"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu():
    model = nn.Sequential(Residual(mlp(4, 6, 6), 4, 6, nn.LayerNorm), nn.Linear(6, 2))
    model.cuda()
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert next(model.parameters()).is_cuda
    assert model_outputs(model, X).shape == (40, 2)


class Counting(nn.Module):
    """A forward that writes on its module whatever mode it is in."""

    def __init__(self, fails=False):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("n_calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))
        self.seen, self.by_name, self.fails = [], {}, fails
        self.plain, self.by_data = torch.zeros(2), torch.zeros(2)

    def forward(self, x):
        self.n_calls += 1
        self.plain += 1
        self.by_data.data[0] += 1
        self.mean = self.mean + 1
        h = torch.relu(self.fc1(x))
        self.seen.append(h)
        self.by_name["h"] = h
        if self.fails:
            raise ZeroDivisionError
        return self.fc2(h)


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_forward_writes_is_undone(fails):
    model = Counting(fails)
    mean = model.mean
    before = snapshot(model)
    if fails:
        with pytest.raises(TypeError, match="cannot follow the forward of Counting"):
            read_chain(model)
    else:
        read_chain(model)
    assert (model.seen, model.by_name) == ([], {})
    assert model.mean is mean
    assert not model.plain.any()
    assert not model.by_data.any()
    assert_untouched(model, before)
    if not fails:
        check_chain(read_chain(model), model, X)
        assert model.n_calls == 0
        assert not model.mean.any()
        # Running the model leaves there what its own forward does, and no proxy.
        assert [type(h) for h in model.seen] == [torch.Tensor]


def test_a_model_made_in_inference_mode():
    with torch.inference_mode():
        model = mlp(4, 6, 2)
        model.insert(1, nn.BatchNorm1d(6))
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert not model[1].num_batches_tracked


def test_an_input_of_open_width():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(1, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.right(self.left(x[:, :1]).relu())

    model = Wide()
    check_chain(read_chain(model, 4), model, X)
    with pytest.raises(ValueError, match="give n_features"):
        read_chain(model)


def test_no_hidden_layer_but_branches():
    model = nn.Sequential(Residual(mlp(4, 6, 4), 4, 4))
    with pytest.raises(
        ValueError, match=r"no hidden layer .*; a layer can be unwrapped "
    ):
        read_chain(model)


def test_a_norm_written_by_hand_comes_before_the_activation():
    model = Custom(lambda s, x: s.fc2(FUNCTIONS["norm by hand"](s.fc1(x))))
    (layer,) = read_chain(model).hidden
    h = FUNCTIONS["norm by hand"](model.fc1(torch.tensor(X, dtype=torch.float32)))
    np.testing.assert_allclose(
        read_chain(model).forward(X.astype("f4"), 0, layer.stop),
        h.detach(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_random_numbers_in_a_forward_are_found_out():
    model = Custom(lambda s, x: s.fc2(s.fc1(x + torch.rand(4)).relu()))
    with pytest.raises(ValueError, match="does not equal the chain"):
        check_chain(read_chain(model), model, X)


def _aliased(model, x):
    h = kept = model.fc1(x)
    h += torch.relu(h) * 2
    return model.fc2(h + kept)


def test_a_change_in_place_that_no_graph_shows_is_found_out():
    model = Custom(_aliased)
    with pytest.raises(ValueError, match="or an operation in place changes it"):
        check_chain(read_chain(model), model, X)
