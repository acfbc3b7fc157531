"""The graph of a predicted token: exact contributions, edges and interventions."""

import copy
import re
from functools import cache

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from skfeat import SparseAutoencoder, Transcoder
from skfeat.language import ModelUnwrapper
from skfeat.language.whole._held import Held
from tests.language_model import tiny_model
from tests.tiny_causal import N_TOKENS, batches, tiny_causal

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)
PART = SparseAutoencoder(24, k=4, max_iter=3)
PROMPT = [1, 2, 3, 5, 8, 1]


def new(model, **changed):
    options = {
        "input_autoencoder": PART,
        "output_autoencoder": PART,
        "n_nonzero_coefs": 6,
        "max_iter": 2,
        "random_state": 0,
    }
    return ModelUnwrapper(model, **(options | changed))


def ids_of_transformer():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(1, 60, (16, 12), generator=generator) for _ in range(2)]


@cache
def fitted():
    return new(tiny_causal()).fit(batches(4))


@cache
def fitted_transformer():
    pytest.importorskip("transformers")
    return new(tiny_model()).fit(ids_of_transformer())


@cache
def fitted_transcoders():
    part = Transcoder(24, k=4, skip=False, max_iter=3)
    unused = dict.fromkeys(("input_autoencoder", "output_autoencoder"))
    unwrapper = new(tiny_causal(), transcoder=part, n_nonzero_coefs=10, **unused)
    return unwrapper.fit(batches(4))


UNWRAPPERS = [fitted, fitted_transformer, fitted_transcoders]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_graph_needs_no_gradients_around_it(mode):
    unwrapper = fitted()
    with mode():
        found = unwrapper.prompt_graph(PROMPT, checks=False)
    assert str(found) == str(unwrapper.prompt_graph(PROMPT, checks=False))


def test_what_a_tokenizer_gives_is_a_prompt():
    transformers = pytest.importorskip("transformers")
    given = transformers.BatchEncoding({"input_ids": torch.tensor([PROMPT])})
    found = fitted_transformer().prompt_graph(given, checks=False)
    same = fitted_transformer().prompt_graph(PROMPT, checks=False)
    assert str(found) == str(same)


@pytest.mark.parametrize("prompt", ["text", None, [1, "a"], [[1, 2], [3]]])
def test_a_prompt_is_numbers(prompt):
    with pytest.raises(TypeError, match="prompt must be token ids of one sequence"):
        fitted().prompt_graph(prompt)


@pytest.mark.parametrize(
    "prompt",
    [3, torch.ones(1, 1, 3, dtype=torch.int64), {"input_ids": torch.arange(3)}],
)
def test_a_prompt_is_a_sequence(prompt):
    with pytest.raises(ValueError, match="has no token ids: an integer tensor"):
        fitted().prompt_graph(prompt)


def test_weights_and_prompts_have_values():
    with pytest.raises(ValueError, match="Batch 0 has one on the device 'meta'"):
        fitted().prompt_graph(torch.ones(3, dtype=torch.int64, device="meta"))
    emptied = copy.deepcopy(fitted_transformer())
    emptied.set_params(model=emptied.model.to("meta"))
    with pytest.raises(ValueError, match="model must have its weights in memory"):
        emptied.prompt_graph(PROMPT)


def test_a_prompt_has_tokens():
    for prompt in ([], torch.zeros(1, 0, dtype=torch.int64)):
        with pytest.raises(ValueError, match="prompt must hold at least one token"):
            fitted().prompt_graph(prompt)


def whole(unwrapper):
    return unwrapper.prompt_graph(PROMPT, share=1.0, max_nodes=10_000, checks=False)


@pytest.mark.parametrize("make", UNWRAPPERS)
def test_what_leaves_a_node_adds_up_to_what_it_adds(make):
    graph = whole(make())
    assert graph.kept == pytest.approx(1)
    leaves = np.bincount(graph.sources, graph.flows, len(graph.name))
    contribution = np.array(graph.contribution)
    np.testing.assert_allclose(leaves[:-1], contribution[:-1], atol=2e-4)


@pytest.mark.parametrize("make", UNWRAPPERS)
def test_the_value_is_the_models_own(make):
    unwrapper = make()
    graph = whole(unwrapper)
    with torch.no_grad():
        output = unwrapper.model.eval()(torch.tensor([PROMPT]))
    logits = getattr(output, "logits", output)[0, -1]
    token = int(logits.argmax())
    assert graph.token == str(token)
    assert graph.value == pytest.approx(float(logits[token] - logits.mean()), abs=1e-4)
    assert graph.probability == pytest.approx(float(logits.softmax(0)[token]), abs=1e-4)


def test_what_enters_a_feature_and_its_bias_add_up_to_it():
    unwrapper = fitted()
    graph = whole(unwrapper)
    enters = np.bincount(graph.targets, graph.flows, len(graph.name))
    for i, (kind, layer) in enumerate(zip(graph.kind, graph.layer, strict=True)):
        if kind == "write" and graph.activation[i] > 1e-3:
            # The link is a ReLU of the weighted sum and the intercept.
            bias = unwrapper.connectors_[layer - 1].intercept_[graph.feature[i]]
            ratio = graph.contribution[i] / graph.activation[i]
            assert enters[i] + bias * ratio == pytest.approx(
                graph.contribution[i], abs=1e-3
            )


def test_changes_are_those_of_the_model_without_a_feature():
    unwrapper = fitted()
    graph = unwrapper.prompt_graph(PROMPT, max_nodes=12)
    assert len(graph.name) <= 13
    features = [k in ("read", "write") for k in graph.kind]
    assert np.array_equal(np.isfinite(graph.change), features)
    # Without a feature of the last layer its MLP gives less along one direction.
    model = unwrapper.model.eval()
    decoder = torch.from_numpy(unwrapper.output_autoencoders_[1].components_)

    @torch.no_grad()
    def value_with(less):
        hook = model.get_submodule("blocks.1.mlp").register_forward_hook(
            lambda module, args, output: output - less
        )
        logits = model(torch.tensor([PROMPT]))[0, -1]
        hook.remove()
        return float(logits[int(graph.token)] - logits.mean())

    last = (np.array(graph.kind) == "write") & (np.array(graph.layer) == 2)
    last &= np.array(graph.position) == len(PROMPT) - 1
    assert last.any()
    for i in np.flatnonzero(last):
        less = graph.activation[i] * decoder[graph.feature[i]]
        change = value_with(less) - value_with(0.0)
        assert graph.change[i] == pytest.approx(change, abs=1e-4)
    pairs = np.array([graph.contribution, graph.change])[:, features]
    expected = np.corrcoef(-pairs[0], pairs[1])[0, 1]
    assert graph.correlation == pytest.approx(expected)
    assert graph.correlation > 0.3


def test_pruning_keeps_the_strongest():
    unwrapper = fitted()
    small = unwrapper.prompt_graph(PROMPT, max_nodes=5, checks=False)
    everything = whole(unwrapper)
    strength = np.sort(np.abs(everything.contribution[:-1]))[::-1]
    np.testing.assert_allclose(
        np.sort(np.abs(small.contribution[:-1]))[::-1], strength[:5], atol=1e-5
    )
    assert small.kept == pytest.approx(strength[:5].sum() / strength.sum(), rel=1e-3)
    assert np.isnan(small.correlation)


def test_position_and_token_can_be_chosen():
    unwrapper = fitted()
    graph = unwrapper.prompt_graph(
        torch.tensor([PROMPT]), position=2, token=7, decode="abcdefghijkl".__getitem__
    )
    assert graph.token == "h"
    assert graph.tokens == ["b", "c", "d", "f", "i", "b"]
    assert max(graph.position) == 2  # a causal model


def test_display_and_page(tmp_path):
    graph = fitted().prompt_graph(PROMPT, decode=lambda i: f"<{i}>")
    display = graph.to_display().plot()
    plt.close(display.figure_)
    # What passes a layer by flows through the nodes of that layer.
    titles = display.layer_names
    assert titles[0] == "tokens"
    assert titles[-1] == "output"
    ends = [np.asarray(part.sum(axis=0)).ravel() for part in display.edges]
    for values, names, out in zip(
        display.node_values[1:], display.node_names[1:], ends[1:], strict=False
    ):
        for value, name, flow in zip(values, names, out, strict=True):
            if name.startswith("("):
                assert "@" not in name
                assert value == pytest.approx(flow, abs=1e-5)
    path = graph.save(tmp_path / "graph.html")
    text = path.read_text(encoding="utf-8")
    assert text.count('class="n"') == len(graph.name)
    assert "src=" not in text
    assert "<1>" not in text.partition("<script>")[0]
    assert "nodes have" in str(graph)
    assert len(graph.to_frame()) == len(graph.name)
    with pytest.raises(FileNotFoundError, match="path must be"):
        graph.save(tmp_path / "none" / "graph.html")


def test_nothing_stands_beyond_the_edge_of_the_page(tmp_path):
    words = [f"unconquerable{i}" for i in range(N_TOKENS)]
    graph = fitted().prompt_graph(PROMPT, max_nodes=3, checks=False, decode=words)
    text = graph.save(tmp_path / "graph.html").read_text(encoding="utf-8")
    width = float(re.search(r'<svg width="(\d+)"', text).group(1))
    labels = re.findall(r'<text x="(\d+)" y="\d+">([^<]*)</text>', text)
    assert sum("unconquerable" in label for _, label in labels) >= 2
    for x, label in labels:
        # Letters of 12 pixels are 7 wide on average.
        assert float(x) + 7 * len(label) <= width


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": [[1, 2], [3, 4]]}, "prompt must be one sequence"),
        ({"position": 6}, "position must be"),
        ({"token": 99}, "token must be"),
        ({"share": 0.0}, "share must be"),
        ({"max_nodes": 0}, "max_nodes must be"),
    ],
)
def test_what_is_not_possible_is_refused_in_a_sentence(changed, message):
    with pytest.raises(ValueError, match=message):
        fitted().prompt_graph(**({"prompt": PROMPT} | changed))


def test_the_model_is_left_alone():
    unwrapper = fitted()
    unwrapper.model.train()
    unwrapper.prompt_graph(PROMPT)
    assert unwrapper.model.training
    assert all(weight.grad is None for weight in unwrapper.model.parameters())


def test_held_normalisation_and_attention_give_the_same_values():
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    norm, weight = torch.nn.LayerNorm(8), torch.ones(8)
    functional = torch.nn.functional
    plain = norm(x), functional.rms_norm(x, (8,), weight), x.softmax(-1)
    attended = functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    rows = x.clone().requires_grad_()
    with Held(torch.zeros(1, 1)):
        held = norm(rows), functional.rms_norm(rows, (8,), weight), rows.softmax(-1)
        both = functional.scaled_dot_product_attention(rows, rows, rows, is_causal=True)
    for one, other in zip((*plain, attended), (*held, both), strict=True):
        torch.testing.assert_close(one, other)
    assert not held[2].requires_grad
    # Linear: what the gradient says of the whole row is the row.
    for part, before in zip((held[1], both), (plain[1], attended), strict=True):
        (gradient,) = torch.autograd.grad(part.sum(), rows, retain_graph=True)
        assert float((gradient * x).sum()) == pytest.approx(
            float(before.sum()), abs=1e-4
        )
