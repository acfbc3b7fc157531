import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score

from skfeat import metrics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 4))
NEAR = LOGITS + RNG.normal(size=LOGITS.shape)


def test_agreement():
    expected = np.mean(
        [a.argmax() == b.argmax() for a, b in zip(LOGITS, NEAR, strict=True)]
    )
    assert (
        metrics.agreement(LOGITS, NEAR) == expected == metrics.agreement(NEAR, LOGITS)
    )
    assert 0.2 < expected < 0.9
    assert metrics.agreement(LOGITS, 3 * LOGITS - 5) == 1.0
    assert type(metrics.agreement(LOGITS, NEAR)) is float
    assert metrics.agreement(torch.tensor(LOGITS), NEAR) == expected


def test_agreement_of_one_logit_is_that_of_two_classes():
    one, other = LOGITS[:, :1], NEAR[:, :1]
    two = [np.hstack([np.zeros_like(part), part]) for part in (one, other)]
    assert metrics.agreement(one, other) == metrics.agreement(*two)


def test_agreement_refuses_other_shapes():
    with pytest.raises(ValueError, match="logits and approximate_logits must have the"):
        metrics.agreement(LOGITS, NEAR[:, :3])
    with pytest.raises(ValueError, match="approximate_logits contains NaN"):
        metrics.agreement(LOGITS, np.where(NEAR > 1, np.nan, NEAR))


def test_floor_of_a_classifier_is_one_label_for_all():
    coef, y = RNG.normal(size=(4, 3)), RNG.integers(3, size=200)

    def forward(H):
        return (H @ coef).argmax(axis=1)

    one = forward(LOGITS.mean(axis=0, keepdims=True))[0]
    found = metrics.mean_ablation_floor(forward, LOGITS, y, metric=accuracy_score)
    assert found == np.mean(y == one)
    other = forward(NEAR[:7].mean(axis=0, keepdims=True))[0]
    found = metrics.mean_ablation_floor(
        forward, LOGITS, y, metric=accuracy_score, reference=NEAR[:7]
    )
    assert found == np.mean(y == other)


def test_floor_of_a_linear_model_has_no_r2():
    coef = RNG.normal(size=4)
    found = metrics.mean_ablation_floor(
        lambda H: H @ coef, LOGITS, LOGITS @ coef, metric=r2_score
    )
    assert found == pytest.approx(0.0, abs=1e-12)


def test_floor_refuses_a_reference_that_does_not_fit():
    for reference in (NEAR[:, :3], NEAR[:0], NEAR[0]):
        with pytest.raises(ValueError, match="reference must be at least one row"):
            metrics.mean_ablation_floor(
                lambda H: H, LOGITS, LOGITS, metric=r2_score, reference=reference
            )


def test_score_kept():
    assert metrics.score_kept(0.98, 0.98, 0.1) == 1.0
    assert metrics.score_kept(0.1, 0.98, 0.1) == 0.0
    # Of losses too, where less is better.
    assert metrics.score_kept(0.3, 0.2, 2.2) == pytest.approx(0.95)
    assert np.isnan(metrics.score_kept(0.5, 0.1, 0.1))


def test_score_kept_is_nan_where_the_floor_is_within_noise():
    assert np.isnan(metrics.score_kept(0.4, 0.50, 0.49, noise=0.02))
    assert np.isnan(metrics.score_kept(0.4, 0.49, 0.50, noise=0.02))
    assert metrics.score_kept(0.4, 0.5, 0.4, noise=0.02) == 0.0
    assert np.isnan(metrics.score_kept(0.4, 0.5, 0.1, noise=np.inf))
    for noise in (-1.0, np.nan):
        with pytest.raises(ValueError, match=r"^noise must be at least 0\. Got"):
            metrics.score_kept(0.4, 0.5, 0.1, noise=noise)


@pytest.mark.parametrize("value", [np.nan, np.inf, "0.5", None, True, [0.5]])
@pytest.mark.parametrize("name", ["score", "score_model", "score_floor"])
def test_score_kept_refuses_what_is_no_score(name, value):
    scores = {"score": 0.4, "score_model": 0.5, "score_floor": 0.1} | {name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number\. Got"):
        metrics.score_kept(**scores)


def test_score_kept_refuses_noise_that_is_no_number():
    for noise in ("0", None, True):
        with pytest.raises(ValueError, match=r"^noise must be at least 0\. Got"):
            metrics.score_kept(0.4, 0.5, 0.1, noise=noise)


def test_floor_refuses_what_is_no_row_or_no_function():
    def floor(H=LOGITS, forward=lambda H: H, metric=r2_score, **options):
        return metrics.mean_ablation_floor(forward, H, LOGITS, metric=metric, **options)

    holed = np.where(NEAR > 1, np.nan, NEAR)
    with pytest.raises(ValueError, match="activations contains NaN"):
        floor(holed)
    with pytest.raises(ValueError, match="reference contains NaN"):
        floor(reference=holed)
    for H in (LOGITS[0], LOGITS[None]):
        with pytest.raises(ValueError, match=r"^activations must be rows, \(n, d\)\."):
            floor(H)
    with pytest.raises(TypeError, match=r"^forward must be a function\. Got None"):
        floor(forward=None)
    with pytest.raises(TypeError, match=r"^metric must be a function\. Got 'r2'"):
        floor(metric="r2")
    with pytest.raises(TypeError, match=r"^metric must return a number\. Got None"):
        floor(metric=lambda y, predicted: None)
    assert floor(np.full((200, 4), 3e38, np.float32), metric=lambda y, p: 1) == 1.0


def test_divergence_of_logits_at_the_ends_of_floats():
    ends = np.array([[1.7e308, -1.7e308]])
    assert metrics.kl_divergence(ends, ends) == 0.0
    assert metrics.kl_divergence(ends, -ends) == np.inf
    assert metrics.kl_divergence(ends, [[0.0, 0.0]]) == pytest.approx(np.log(2))
    assert metrics.kl_divergence([[0.0, 0.0]], ends / 1e308) == pytest.approx(
        np.log(np.cosh(1.7))
    )
    assert metrics.agreement(ends, ends) == 1.0
