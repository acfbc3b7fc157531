import copy
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import nn

from skfeat.adapters import check_chain, read_chain

X = np.random.default_rng(0).normal(size=(40, 4))
SEQUENTIAL = nn.Sequential


class Custom(nn.Module):
    """A user's module whose forward is the function given."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)
        self.function = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


class Doubled(nn.Linear):
    def forward(self, x):
        return super().forward(2 * x)


class Overridden(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Masked(nn.Linear):
    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.register_buffer("mask", (torch.rand(n_out, n_in) > 0.5).float())

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


class Block(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        return F.dropout(torch.relu(self.linear(x)), 0.5, self.training)


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        self.last = x = torch.tanh(self.fc1(x))
        self.detached = x.detach()
        return self.fc2(x)


class TwoInputs(nn.Module):
    def forward(self, x, mask):
        return x * mask


class OptionalInput(Block):
    def __init__(self):
        super().__init__(4, 6)
        self.fc2 = nn.Linear(6, 2)

    def forward(self, x, mask=None):
        if mask is not None:
            x = x * mask
        return self.fc2(super().forward(x))


def norm(n):
    module = nn.BatchNorm1d(n)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    module.running_mean.normal_()
    module.running_var.uniform_(0.5, 2.0)
    return module


def mlp(*between, n_in=4):
    return SEQUENTIAL(nn.Linear(n_in, 6), *between, nn.Linear(6, 3))


def forwards(body):
    return lambda self, x: self.fc2(body(self.fc1(x)))


RELU = nn.ReLU()
MODELS = {
    "relu": lambda: mlp(nn.ReLU()),
    "inplace": lambda: mlp(nn.ReLU(inplace=True)),
    "leaky": lambda: mlp(nn.LeakyReLU(0.3)),
    "elu": lambda: mlp(nn.ELU(0.5)),
    "gelu": lambda: mlp(nn.GELU()),
    "gelu tanh": lambda: mlp(nn.GELU(approximate="tanh")),
    "silu": lambda: mlp(nn.SiLU()),
    "tanh": lambda: mlp(nn.Tanh()),
    "sigmoid": lambda: mlp(nn.Sigmoid()),
    "softmax": lambda: SEQUENTIAL(mlp(nn.ReLU()), nn.Softmax(dim=1)),
    "log softmax": lambda: SEQUENTIAL(mlp(nn.ReLU()), nn.LogSoftmax(dim=-1)),
    "nested": lambda: SEQUENTIAL(
        SEQUENTIAL(SEQUENTIAL(nn.Linear(4, 6)), RELU), mlp(RELU, n_in=6)
    ),
    "flatten and identity": lambda: SEQUENTIAL(nn.Flatten(), nn.Identity(), mlp(RELU)),
    "no bias": lambda: SEQUENTIAL(nn.Linear(4, 6, bias=False), RELU, nn.Linear(6, 1)),
    "dropout": lambda: mlp(nn.Dropout(), nn.ReLU(), nn.AlphaDropout()),
    "norm before": lambda: mlp(norm(6), nn.ReLU()),
    "norm after": lambda: mlp(nn.ReLU(), norm(6)),
    "norm first": lambda: SEQUENTIAL(norm(4), mlp(nn.ReLU())),
    "norm last": lambda: SEQUENTIAL(mlp(nn.ReLU()), nn.ReLU(), norm(3)),
    "norm without affine": lambda: mlp(nn.BatchNorm1d(6, affine=False), nn.ReLU()),
    "layer norm": lambda: mlp(nn.LayerNorm(6), nn.ReLU()),
    "layer norm after": lambda: mlp(nn.ReLU(), nn.LayerNorm(6, bias=False)),
    "layer norm plain": lambda: mlp(nn.LayerNorm(6, elementwise_affine=False), RELU),
    "weight norm": lambda: SEQUENTIAL(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), RELU, nn.Linear(6, 3)
    ),
    "spectral norm": lambda: SEQUENTIAL(
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), RELU, nn.Linear(6, 3)
    ),
    "old spectral norm": lambda: SEQUENTIAL(
        nn.utils.spectral_norm(nn.Linear(4, 6)), RELU, nn.Linear(6, 3)
    ),
    "overridden": lambda: SEQUENTIAL(Overridden(4, 6), RELU, Doubled2(6, 3)),
    "masked": lambda: SEQUENTIAL(Masked(4, 6), RELU, nn.Linear(6, 3)),
    "blocks": lambda: SEQUENTIAL(Block(4, 6), Block(6, 5), nn.Linear(5, 2)),
    "keeps": Keeps,
    "optional input": OptionalInput,
    "float64": lambda: mlp(norm(6), nn.ReLU()).double(),
    "float16": lambda: mlp(nn.ReLU()).half(),
    "bfloat16": lambda: mlp(nn.ReLU()).bfloat16(),
    "F.relu": lambda: Custom(forwards(F.relu)),
    "torch.relu": lambda: Custom(forwards(torch.relu)),
    "x.relu": lambda: Custom(forwards(lambda x: x.relu())),
    "x.relu_": lambda: Custom(forwards(lambda x: x.relu_())),
    "F.relu inplace": lambda: Custom(forwards(lambda x: F.relu(x, inplace=True))),
    "torch.tanh": lambda: Custom(forwards(torch.tanh)),
    "F.gelu": lambda: Custom(forwards(lambda x: F.gelu(x, approximate="tanh"))),
    "F.silu": lambda: Custom(forwards(F.silu)),
    "F.leaky_relu": lambda: Custom(forwards(lambda x: F.leaky_relu(x, 0.2))),
    "F.elu": lambda: Custom(forwards(lambda x: F.elu(x, alpha=0.2))),
    "F.softmax": lambda: Custom(lambda s, x: F.softmax(s.fc2(F.relu(s.fc1(x))), dim=1)),
    "x.softmax": lambda: Custom(lambda s, x: s.fc2(F.relu(s.fc1(x))).softmax(-1)),
    "F.dropout": lambda: Custom(
        lambda s, x: s.fc2(F.dropout(F.relu(s.fc1(x)), training=s.training))
    ),
    "F.linear": lambda: Custom(
        lambda s, x: F.linear(F.relu(s.fc1(x)), s.fc2.weight, bias=s.fc2.bias)
    ),
    "torch.flatten": lambda: Custom(
        lambda s, x: s.fc2(s.fc1(torch.flatten(x, 1)).relu())
    ),
    "x.flatten": lambda: Custom(lambda s, x: s.fc2(s.fc1(x.flatten(1)).relu())),
    "view size": lambda: Custom(
        lambda s, x: s.fc2(s.fc1(x.view(x.size(0), -1)).relu())
    ),
    "view shape": lambda: Custom(
        lambda s, x: s.fc2(s.fc1(x.reshape(x.shape[0], -1)).relu())
    ),
    "view width": lambda: Custom(lambda s, x: s.fc2(s.fc1(x.view(-1, 4)).relu())),
    "view tuple": lambda: Custom(
        lambda s, x: s.fc2(s.fc1(torch.reshape(x, (x.shape[0], 4))).relu())
    ),
    "to": lambda: Custom(lambda s, x: s.fc2(s.fc1(x.float().to(torch.float32)).relu())),
    "squeeze": lambda: Custom(
        lambda s, x: torch.sigmoid(s.fc2(s.fc1(x).relu()).squeeze(-1)),
        fc2=nn.Linear(6, 1),
    ),
    "view -1": lambda: Custom(
        lambda s, x: s.fc2(s.fc1(x).relu()).view(-1), fc2=nn.Linear(6, 1)
    ),
    "loop": lambda: Custom(
        lambda s, x: s.fc2(_loop(s.layers, x)),
        layers=nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 6)]),
    ),
    "shared custom": lambda: Custom(
        lambda s, x: s.fc2(s.act(s.fc3(s.act(s.fc1(x))))), act=RELU, fc3=nn.Linear(6, 6)
    ),
}


class Doubled2(Overridden):
    """Overrides nothing itself, but inherits an overridden forward."""


def _loop(layers, x):
    for layer in layers:
        x = torch.relu(layer(x))
    return x


def snapshot(model):
    modules = {
        name: (
            module.training,
            {k: v for k, v in vars(module).items() if not isinstance(v, dict)},
            {k: list(v.items()) for k, v in vars(module).items() if "hooks" in k},
        )
        for name, module in model.named_modules()
    }
    parameters = {k: (p, p.requires_grad, p.grad) for k, p in model.named_parameters()}
    return modules, parameters, copy.deepcopy(model.state_dict())


def assert_untouched(model, before):
    modules, parameters, state = snapshot(model)
    assert modules == before[0]
    assert parameters.keys() == before[1].keys()
    for name, found in parameters.items():
        assert all(a is b for a, b in zip(found, before[1][name], strict=True))
    assert state.keys() == before[2].keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, before[2][name])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_chain_equals_the_model_and_leaves_it_alone(make):
    torch.manual_seed(0)
    model = make()
    model.train()
    before, random_state = snapshot(model), torch.get_rng_state()
    chain = read_chain(model, n_features=4)
    assert_untouched(model, before)
    check_chain(chain, model, X)
    assert torch.equal(torch.get_rng_state(), random_state)

    for module in model.modules():
        assert module.training
    state = model.state_dict()
    assert all(torch.equal(state[name], before[2][name]) for name in state)
    dtype = "f8" if next(model.parameters()).dtype == torch.float64 else "f4"
    assert {a.dtype for step in chain.steps for a in step.arrays.values()} == {
        np.dtype(dtype)
    }


def test_sequential_names():
    chain = read_chain(
        SEQUENTIAL(
            nn.Linear(4, 6), norm(6), nn.Tanh(), mlp(nn.Dropout(), nn.ReLU(), n_in=6)
        )
    )
    assert [layer.name for layer in chain.hidden] == ["0", "3.0"]
    assert [layer.aliases for layer in chain.hidden] == [("2",), ("3.2",)]
    assert [layer.n_units for layer in chain.hidden] == [6, 6]
    assert [step.kind for step in chain.steps] == [
        "affine",
        "tanh",
        "affine",
        "relu",
        "affine",
    ]


def test_custom_names():
    model = MODELS["shared custom"]()
    assert [layer.name for layer in read_chain(model).hidden] == ["fc1", "fc3"]
    assert [layer.aliases for layer in read_chain(model).hidden] == [(), ()]
    blocks = read_chain(MODELS["blocks"]())
    assert [layer.name for layer in blocks.hidden] == ["0.linear", "1.linear"]
    masked = read_chain(MODELS["masked"]())
    assert [layer.name for layer in masked.hidden] == ["0"]
    assert masked.hidden[0].aliases == ("1",)
    assert [s.name for s in read_chain(MODELS["F.linear"]()).steps] == [
        "fc1",
        "",
        "fc2",
    ]


@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: SEQUENTIAL(Custom(lambda s, x: x), m)]
)
def test_shared_relu(wrap):
    relu = nn.ReLU()
    chain = read_chain(
        wrap(SEQUENTIAL(nn.Linear(4, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, 2)))
    )
    assert [step.kind for step in chain.steps].count("relu") == 2
    assert [layer.aliases for layer in chain.hidden] == [(), ()]


def test_arrays_are_copies():
    model = mlp(nn.ReLU()).double()
    chain = read_chain(model)
    chain.steps[0].arrays["coef"][:] = 7.0
    assert not (model[0].weight == 7.0).any()


def test_untouched_when_reading_fails():
    model = Custom(lambda s, x: s.fc2(torch.relu(s.fc1(x))) + x.sum() * torch.ones(3))
    before = snapshot(model)
    with pytest.raises(TypeError, match="cannot unwrap"):
        read_chain(model)
    assert_untouched(model, before)


def test_cached_values_are_kept():
    model = Keeps()
    model(torch.ones(1, 4))
    last, detached = model.last, model.detached
    read_chain(model)
    assert model.last is last
    assert model.detached is detached


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["relu", "keeps"])
def test_compiled(name):
    model = MODELS[name]()
    compiled = torch.compile(model, backend="eager")
    chain = read_chain(compiled)
    assert [layer.name for layer in chain.hidden] == [
        layer.name for layer in read_chain(model).hidden
    ]
    check_chain(chain, compiled, X)
    read_chain(SEQUENTIAL(compiled, nn.ReLU(), nn.Linear(3, 2)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_weight_norm_is_read_up_to_date():
    model = SEQUENTIAL(nn.utils.weight_norm(nn.Linear(4, 6)), RELU, nn.Linear(6, 3))
    with torch.no_grad():
        model[0].weight_g.mul_(3.0)
    stale = model[0].weight.clone()
    chain = read_chain(model)
    assert torch.equal(model[0].weight, stale)
    check_chain(chain, model, X)


def test_pruned():
    model = mlp(nn.ReLU())
    nn.utils.prune.l1_unstructured(model[0], "weight", amount=0.5)
    chain = read_chain(model)
    assert np.count_nonzero(chain.steps[0].arrays["coef"]) == 12
    check_chain(chain, model, X)


def unsupported(forward, match, **modules):
    return pytest.param(lambda: Custom(forward, **modules), match, id=match)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SEQUENTIAL(nn.Conv1d(1, 2, 3)), r"layer '0' \(Conv1d\) of rows"),
        (lambda: mlp(nn.Softmin(dim=1)), r"layer '1' \(Softmin\)"),
        (lambda: mlp(nn.Softmax(dim=0)), r"layer '1' \(Softmax\)"),
        (lambda: mlp(nn.Flatten(0), nn.ReLU()), "reshape of 6 values a row to 1"),
        (
            lambda: mlp(nn.BatchNorm1d(6, track_running_stats=False)),
            "track_running_stats",
        ),
        (lambda: mlp(nn.LayerNorm((2, 3))), "several dimensions"),
        (lambda: SEQUENTIAL(nn.LSTM(4, 6), nn.Linear(6, 1)), r"\(LSTM\)"),
        (lambda: nn.MultiheadAttention(4, 1), "MultiheadAttention"),
        (
            lambda: nn.TransformerEncoderLayer(4, 1),
            r"'self_attn' \(MultiheadAttention\)",
        ),
        (TwoInputs, "missing 1 required positional argument: 'mask'"),
        unsupported(
            lambda s, x: s.conv(x), r"'conv' \(Conv1d\)", conv=nn.Conv1d(1, 1, 1)
        ),
        unsupported(lambda s, x: x + torch.ones(5, 4), "'add' of anything but values"),
        unsupported(lambda s, x: s.fc1(x).mean(0), "operation 'mean'"),
        unsupported(lambda s, x: s.fc1(x).var(-1, keepdim=True), "operation 'var'"),
        unsupported(lambda s, x: torch.hypot(x, s.fc1(x)), "operation 'hypot'"),
        unsupported(lambda s, x: F.elu(x, s.fc1(x)), "'elu', which reads more"),
        unsupported(lambda s, x: F.elu(x, torch.ones(4)), "anything but numbers"),
        unsupported(lambda s, x: (s.fc1(x), 3), "an output that is not computed"),
        unsupported(lambda s, x: s.fc1(x)[0], "'getitem' of anything but cons"),
        unsupported(lambda s, x: s.fc1(x)[:, ::2], "'getitem' of anything but cons"),
        unsupported(lambda s, x: torch.cat([x, x]), "'cat' of anything but the col"),
        unsupported(lambda s, x: x.split(2)[0], "'split' of anything but columns"),
        unsupported(lambda s, x: s.fc1(x) + torch.ones(3), "3 entries for 6 values"),
        unsupported(lambda s, x: {"out": x}["out"].sum(0), "'sum'"),
        unsupported(
            lambda s, x: s.fc1(x) if x.sum() > 0 else x,
            r"of Custom \(its forward branches on the data\); supported",
        ),
        unsupported(
            lambda s, x: s.conv(x.view(-1, 2, 2, 1)).flatten(1),
            "which takes 1 channels, but is given 2",
            conv=nn.Conv2d(1, 1, 1),
        ),
        unsupported(
            lambda s, x: s.conv(x[:, None]).flatten(1),
            "the operation 'getitem' of anything but consecutive columns",
            conv=nn.Conv1d(1, 1, 1),
        ),
        (lambda: SEQUENTIAL(nn.Softmax(0)), r"'0' \(Softmax\) with dim=0; supported"),
        unsupported(lambda s, x: torch.softmax(x, 0), r"'softmax' with dim=0; supp"),
        unsupported(lambda s, x: F.dropout(s.fc1(x), 0.5), "operation 'dropout'"),
        unsupported(lambda s, x: F.softmax(s.fc1(x), dim=0), "operation 'softmax'"),
        unsupported(lambda s, x: s.fc1(x).view(-1, 2), "6 values a row to 2"),
        unsupported(lambda s, x: x.view(x.size(1), -1), "operation 'view'"),
        unsupported(lambda s, x: F.linear(x, s.fc1(x)), "'linear' whose weight"),
        unsupported(lambda s, x: F.linear(x, x), "not a constant"),
        unsupported(lambda s, x: clamped(s.fc1(x)), "'clamp' of anything but values"),
        unsupported(lambda s, x: nn.Linear(4, 2)(x), "a Linear made in forward, since"),
        unsupported(lambda s, x: x @ s.fc1(x).T, "'getattr'"),
        unsupported(lambda s, x: 1 / 0, "division by zero"),
    ],
)
def test_unsupported(make, match):
    model = make()
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    with pytest.raises(TypeError, match=match):
        read_chain(model)
    assert keys == {name: set(vars(module)) for name, module in model.named_modules()}


def clamped(x):
    return x.clamp(min=torch.ones(5, 6))


def test_a_forward_replaced_on_the_instance():
    model = Keeps()
    model.forward = lambda x: x
    with pytest.raises(TypeError, match="forward was replaced"):
        read_chain(model)
    inner = mlp(nn.ReLU())
    inner[1].forward = torch.tanh
    check_chain(read_chain(inner), inner, X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_module():
    with pytest.raises(TypeError, match="TorchScript"):
        read_chain(torch.jit.script(mlp(nn.ReLU())))


def test_lazy():
    model = SEQUENTIAL(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 1))
    with pytest.raises(ValueError, match=r"layer '0' is not initialised.*one forward"):
        read_chain(model)
    model(torch.ones(2, 4))
    check_chain(read_chain(model), model, X)


def test_bad_weights_are_named():
    model = mlp(nn.ReLU())
    with torch.no_grad():
        model[2].bias[0] = torch.nan
    with pytest.raises(ValueError, match="bias of layer '2' has NaN"):
        read_chain(model)
    with pytest.raises(ValueError, match="layer '0' is on the meta device"):
        read_chain(mlp(nn.ReLU()).to("meta"))


def test_wrong_width():
    with pytest.raises(ValueError, match="takes 4 values a row, but is given 2"):
        read_chain(Custom(lambda s, x: s.fc2(s.fc1(x.view(-1, 2)).relu())))
    with pytest.raises(ValueError, match="model expects 4 input features, X has 6"):
        read_chain(mlp(nn.ReLU()), n_features=6)


def test_foreign_thread_runs_during_a_trace():
    foreign, seen = mlp(nn.ReLU()), []
    rows = torch.ones(3, 4)

    def forward(s, x):
        thread = threading.Thread(target=lambda: seen.append(foreign(rows)))
        thread.start()
        thread.join()
        return s.fc2(torch.relu(s.fc1(x)))

    read_chain(Custom(forward))
    assert torch.equal(seen[0], foreign(rows))


def test_no_warning_is_given():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = MODELS["blocks"]()
        check_chain(read_chain(model), model, X)
    assert caught == []


def test_exported_modules_are_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    exported = torch.export.export(model, (torch.zeros(2, 4),)).module()
    with pytest.raises(TypeError, match=r"a module of torch\.export; pass the"):
        read_chain(exported, 4)
    # One that keeps its layers is read.
    assert read_chain(torch.fx.symbolic_trace(model), 4).n_outputs == 2
