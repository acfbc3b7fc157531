import threading

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn

from skfeat import FeatureUnwrapper
from skfeat.adapters import (
    check_chain,
    frozen_model,
    infer_task,
    model_classes,
    model_outputs,
    read_chain,
)
from skfeat.chain import Chain
from tests.adapters.test_torch_reader import (
    MODELS,
    SEQUENTIAL,
    Custom,
    OptionalInput,
    X,
    assert_untouched,
    mlp,
    norm,
    snapshot,
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_models_with_nothing_to_unwrap_say_why():
    rows = np.random.default_rng(0).normal(size=(9, 2))
    flat = MLPClassifier((), max_iter=2).fit(rows, np.arange(9) % 3)
    with pytest.raises(
        ValueError, match=r"it needs at least one: .*hidden_layer_sizes="
    ):
        read_chain(flat)
    single = MLPClassifier((3,), max_iter=2).fit(rows, np.full(9, "a"))
    with pytest.raises(ValueError, match="fitted on rows of a single class, 'a', and"):
        FeatureUnwrapper(single).fit(rows)


@pytest.mark.parametrize("name", ["relu", "blocks"])
def test_hooks_fire_and_remain(name):
    model, calls = MODELS[name](), []
    for module in model.modules():
        module.register_forward_hook(lambda *args: calls.append(type(args[2])))
    before = snapshot(model)
    read_chain(model)
    assert calls == []
    model_outputs(model, X)
    assert calls == [torch.Tensor] * len(list(model.modules()))
    assert_untouched(model, before)


def test_a_hook_that_changes_the_output_is_found_out():
    model = mlp(nn.ReLU())
    chain = read_chain(model)
    model[0].register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(ValueError, match="a forward hook, an overridden method or an"):
        check_chain(chain, model, X)
    model[0]._forward_hooks.clear()
    check_chain(chain, model, X)


def test_nan_outputs_are_found_out():
    model = mlp(nn.ReLU())
    chain = read_chain(model)
    model.register_forward_hook(lambda module, args, output: output * torch.nan)
    with pytest.raises(ValueError, match="does not equal the chain"):
        check_chain(chain, model, X)


def test_frozen_model_restores_mixed_flags():
    class Stubborn(nn.ReLU):
        def train(self, mode=True):
            raise AssertionError("train was called")

    model = SEQUENTIAL(nn.Linear(4, 4), Stubborn(), nn.Linear(4, 1))
    model[0].training = False
    with frozen_model(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True, True]
    with pytest.raises(ZeroDivisionError), frozen_model(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == [True, False, True, True]


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (nn.Linear, "got the class Linear; pass an instance"),
        (42, r"instance, a skorch net, .* got 42 of type int"),
        (None, "got None of type NoneType"),
    ],
)
def test_no_model(model, match):
    with pytest.raises(TypeError, match=match):
        read_chain(model)


@pytest.mark.parametrize(
    "model", [nn.Linear(4, 2), SEQUENTIAL(nn.Linear(4, 2), nn.ReLU()), SEQUENTIAL()]
)
def test_no_hidden_layer(model):
    with pytest.raises(ValueError, match="has no hidden layer"):
        read_chain(model)


CLASSES = {"two": np.array(["a", "b"]), "three": np.array([1, 5, 9])}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("classes", [*CLASSES, "several labels"])
def test_mlp_classifier(activation, classes):
    if classes == "several labels":
        y = (X[:, :2] > 0).astype(int)
    else:
        y = CLASSES[classes][np.arange(40) % len(CLASSES[classes])]
    model = MLPClassifier((5, 6), activation=activation, max_iter=3).fit(X, y)
    chain = read_chain(model, 4)
    check_chain(chain, model, X)
    assert [layer.name for layer in chain.hidden] == ["hidden_0", "hidden_1"]
    assert chain.steps[-1].kind == ("softmax" if classes == "three" else "sigmoid")
    assert chain.n_outputs == {"two": 1, "three": 3}.get(classes, 2)
    assert infer_task(model) == "classification"
    assert model_classes(model) is model.classes_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_mlp_regressor(loss, n_outputs):
    y = np.abs(X[:, :n_outputs]).squeeze()
    model = MLPRegressor(hidden_layer_sizes=(5,), loss=loss, max_iter=3).fit(
        X.astype("f4"), y
    )
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert model_outputs(model, X).shape == (40, n_outputs)
    assert infer_task(model) == "regression"
    assert model_classes(model) is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mlp_fitted_on_a_dataframe():
    pd = pytest.importorskip("pandas")
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2).fit(
        pd.DataFrame(X, columns=list("abcd")), X[:, 0]
    )
    check_chain(read_chain(model), model, X)
    assert list(model.feature_names_in_) == list("abcd")


def test_unfitted():
    with pytest.raises(NotFittedError):
        read_chain(MLPClassifier())
    skorch = pytest.importorskip("skorch")
    with pytest.raises(
        ValueError, match="NeuralNetClassifier has no module yet; fit it"
    ):
        read_chain(skorch.NeuralNetClassifier(nn.Linear))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_skorch():
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(
        MODELS["softmax"](), max_epochs=1, verbose=0, train_split=None
    ).fit(X.astype("f4"), np.arange(40) % 3)
    chain = read_chain(net, 4)
    check_chain(chain, net, X)
    np.testing.assert_allclose(
        chain.forward(X), net.predict_proba(X.astype("f4")), atol=1e-5
    )
    assert infer_task(net) == "classification"
    np.testing.assert_array_equal(model_classes(net), [0, 1, 2])
    plain = skorch.NeuralNet(mlp(nn.ReLU()), nn.MSELoss).initialize()
    assert infer_task(plain) == "classification"
    assert model_classes(plain) is None


class Extension:
    def __init__(self, chain):
        self.chain = chain

    def __skfeat_chain__(self, n_features):
        return self.chain


def test_extension_point():
    chain = read_chain(mlp(nn.ReLU()))
    model = Extension(chain)
    assert read_chain(model, 4) is chain
    check_chain(chain, model, X)
    assert infer_task(model) == "classification"
    with pytest.raises(TypeError, match="must return a Chain, got 3"):
        read_chain(Extension(3))
    with pytest.raises(ValueError, match="no hidden layer"):
        read_chain(Extension(Chain.from_steps(chain.steps[:1])))


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (mlp(nn.ReLU()), "classification"),
        (SEQUENTIAL(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)), "regression"),
        (SEQUENTIAL(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1)), "regression"),
        (SEQUENTIAL(nn.Linear(4, 1), nn.Sigmoid()), "classification"),
        (Custom(lambda s, x: torch.sigmoid(s.fc1(x))), "classification"),
        (OptionalInput(), "classification"),
        (nn.LazyLinear(3), None),
        (nn.ConvTranspose1d(1, 1, 1), None),
        (nn.Linear, None),
        (MLPClassifier(), "classification"),
        (Extension(3), None),
        (42, None),
    ],
)
def test_infer_task(model, task):
    assert infer_task(model) == task


def test_model_outputs_takes_any_array():
    model = mlp(norm(6), nn.Dropout(), nn.ReLU())
    expected = model_outputs(model, X)
    assert expected.dtype == np.float32
    read_only = X.copy()
    read_only.flags.writeable = False
    reversed_rows = np.asfortranarray(X[::-1])[::-1]
    for same in (read_only, reversed_rows, X.astype("f4")):
        found = model_outputs(model, same, batch_size=7)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert model_outputs(model, X[:1]).shape == (1, 3)
    assert model_outputs(model, X[:0]).shape == (0, 3)
    assert model_outputs(model.double(), X).dtype == np.float64
    assert model_outputs(MODELS["float16"](), X).dtype == np.float32


def test_inplace_model_leaves_x_alone():
    before = X.copy()
    model_outputs(SEQUENTIAL(nn.ReLU(inplace=True), mlp(nn.ReLU())).double(), X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("n_rows", [1, 5])
def test_one_dimensional_outputs(n_rows):
    model = Custom(lambda s, x: s.fc1(x)[:, :1].squeeze())
    assert model_outputs(model, X[:n_rows]).shape == (n_rows, 1)


@pytest.mark.parametrize(
    ("forward", "match"),
    [
        (lambda s, x: (x, "x"), "it returned a str"),
        (lambda s, x: x.argmax(1), "it returned a torch.int64"),
        (lambda s, x: x.sum(), r"the shape \(\) for 40 rows"),
        (lambda s, x: x[:, None], r"the shape \(40, 1, 4\)"),
        (lambda s, x: x[:3], r"the shape \(3, 4\)"),
    ],
)
def test_other_outputs_are_refused(forward, match):
    with pytest.raises(TypeError, match=match):
        model_outputs(Custom(forward), X)


def test_two_threads_at_once():
    models = [MODELS["blocks"](), MODELS["keeps"]()]
    expected = [model_outputs(model, X) for model in models]
    foreign, errors = mlp(nn.ReLU()), []
    rows = torch.ones(3, 4)

    def work(i):
        try:
            for _ in range(20):
                chain = read_chain(models[i % 2])
                check_chain(chain, models[i % 2], X)
                found = model_outputs(models[i % 2], X)
                np.testing.assert_array_equal(found, expected[i % 2])
                # A model that no lock of ours knows, run while another thread traces.
                assert type(foreign(rows)) is torch.Tensor
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(module.training for model in models for module in model.modules())
