import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skfeat.adapters import check_chain, infer_task, model_outputs, read_chain
from tests.adapters.test_torch_reader import Block, Custom, assert_untouched, snapshot

X = np.random.default_rng(1).normal(size=(50, 4))
SHARED = nn.Linear(6, 6)
FUNCTIONS = {"tanh": torch.tanh, "relu": lambda x: nn.ReLU()(x)}


class Layers(nn.Module):
    """Runs what a plain list keeps, one after another."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = list(layers)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def between(body, **attributes):
    return lambda: Custom(lambda s, x: s.fc2(body(s, s.fc1(x))), **attributes)


MODELS = {
    "made": between(lambda s, x: nn.ReLU()(x)),
    "made, in place": between(lambda s, x: nn.ReLU(inplace=True)(x)),
    "made with arguments": between(lambda s, x: nn.Threshold(0.1, -2.0)(x)),
    "made by name": between(lambda s, x: getattr(nn, "ELU")(0.3)(x)),  # noqa: B009
    "a function by name": between(lambda s, x: getattr(torch, "tanh")(x)),  # noqa: B009
    "made Sequential": between(
        lambda s, x: nn.Sequential(nn.Identity(), nn.Sequential(nn.GELU()))(x)
    ),
    "made norm": between(lambda s, x: nn.Hardswish()(nn.LayerNorm(6)(x))),
    "made weights of one value": between(lambda s, x: nn.PReLU(init=0.4)(x)),
    "list": between(lambda s, x: s.acts[1](x), acts=[nn.ReLU(), nn.Tanh()]),
    "tuple in a dict": between(
        lambda s, x: s.acts["a"][0](x), acts={"a": (nn.SiLU(),)}
    ),
    "partial": between(
        lambda s, x: s.act(x), act=partial(F.leaky_relu, negative_slope=0.2)
    ),
    "lambda": between(lambda s, x: FUNCTIONS["relu"](x)),
    "ModuleList": between(lambda s, x: s.acts[-1](x), acts=nn.ModuleList([nn.Mish()])),
    "ModuleDict": between(
        lambda s, x: s.acts["b"](x), acts=nn.ModuleDict({"b": nn.CELU()})
    ),
    "of the module's file": between(lambda s, x: torch.relu(SHARED(torch.relu(x)))),
    "a list of layers": lambda: Layers(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6)),
    "norm in eval mode": lambda: Layers(
        nn.Linear(4, 6), nn.BatchNorm1d(6).eval(), nn.ReLU()
    ),
    "made when first called": between(lambda s, x: _make_once(s)(x)),
    "softmax": lambda: Custom(
        lambda s, x: nn.Softmax(dim=-1)(s.fc2(nn.Sigmoid()(s.fc1(x))))
    ),
}


def _make_once(module):
    module.act = nn.ReLU()
    return module.act


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_what_the_model_has_not_registered_is_read(make):
    torch.manual_seed(0)
    model = make().eval()
    before, state = snapshot(model), torch.get_rng_state()
    chain = read_chain(model, 4)
    assert_untouched(model, before)
    check_chain(chain, model, X)
    assert torch.equal(state, torch.get_rng_state())


def test_names_are_paths_in_lists_and_dicts():
    listed = read_chain(MODELS["list"]())
    assert [(h.name, h.aliases) for h in listed.hidden] == [("fc1", ("acts.1",))]
    made = read_chain(MODELS["made"]())
    assert [(h.name, h.aliases) for h in made.hidden] == [("fc1", ())]
    layers = read_chain(MODELS["a list of layers"]().eval())
    assert [h.name for h in layers.hidden] == ["layers.0", "layers.2"][:1]
    blocks = read_chain(Layers(nn.Linear(4, 5), nn.ReLU(), Plain(5, 6)))
    assert [h.name for h in blocks.hidden] == ["layers.0", "layers.2.linear"]
    assert infer_task(MODELS["softmax"]()) == "classification"


class Plain(Block):
    def forward(self, x):
        self.seen = x = torch.relu(self.linear(x))
        return x


class Drops(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)
        self.layers = [nn.Dropout(0.4)]

    def forward(self, x):
        return self.fc2(nn.Dropout(0.5)(self.layers[0](torch.relu(self.fc1(x)))))


RANDOM = {
    "Dropout": Drops,
    "RReLU": between(lambda s, x: nn.RReLU()(x)),
    "Block": lambda: Layers(Block(4, 6)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_stays_random_is_told_and_read_in_eval_mode(name):
    model = RANDOM[name]().eval()
    rows = torch.tensor(X, dtype=torch.float32)
    assert not torch.equal(model(rows), model(rows))
    with pytest.warns(UserWarning, match=f"the {name} that .*ModuleList") as caught:
        chain = read_chain(model)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_chain(chain, model, X)
        assert np.array_equal(model_outputs(model, X), model_outputs(model, X))
    # The model is as random as before.
    assert not torch.equal(model(rows), model(rows))
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_user_who_has_set_eval_mode_is_not_warned():
    model = Layers(Block(4, 6).eval(), nn.Dropout(0.9).eval()).eval()
    check_chain(read_chain(model), model, X)


def test_what_a_kept_module_stores_is_undone():
    block = Plain(4, 6)
    read_chain(Layers(block))
    assert not hasattr(block, "seen")
    assert block.training
    model_outputs(Layers(block), X)
    assert block.training


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (lambda s, x: nn.Linear(6, 6)(x).relu(), "a Linear made in forward, since its"),
        (lambda s, x: nn.LazyLinear(6)(x).relu(), "a LazyLinear made in forward"),
        (lambda s, x: Block(6, 6)(x), "as self.layer = Block"),
        (lambda s, x: nn.LSTM(6, 6)(x)[0], "a LSTM made in forward"),
        (lambda s, x: nn.Softmin(1)(x), "unwrap a Softmin that is no submodule"),
        (lambda s, x: nn.BatchNorm1d(6)(x), "BatchNorm1d that model.eval.. does not"),
        (lambda s, x: s.kept[0](x), "BatchNorm1d that model.eval.. does not reach"),
    ],
)
def test_refused(body, match):
    model = between(body, kept=[nn.BatchNorm1d(6)])()
    state = torch.get_rng_state()
    with pytest.raises(TypeError, match=match):
        read_chain(model.eval())
    assert torch.equal(state, torch.get_rng_state())


def test_weights_of_a_seeded_forward_are_read():
    def forward(s, x):
        generator = torch.Generator().manual_seed(3)
        weight = torch.randn(6, 6, generator=generator)
        return s.fc2(torch.relu(F.linear(s.fc1(x), weight)))

    model = Custom(forward)
    check_chain(read_chain(model), model, X)


def test_random_constants_are_found_out():
    model = between(lambda s, x: torch.relu(x) + torch.randn(6))()
    chain = read_chain(model)
    with pytest.raises(ValueError, match="does not equal the chain"):
        check_chain(chain, model, X)


def compiled_inside():
    model = between(lambda s, x: nn.ReLU()(s.body(x)))()
    model.body = torch.compile(
        nn.Sequential(nn.Linear(6, 6), nn.Tanh()), backend="eager"
    )
    return model


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_compiled_part_runs_as_it_is():
    model = compiled_inside()
    check_chain(read_chain(model), model, X)


def test_a_dropout_that_is_always_on_is_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r"'dropout' without training=self\.training"):
        read_chain(between(lambda s, x: F.dropout(torch.relu(x), 0.3))())
