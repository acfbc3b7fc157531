"""Compiling ahead: large fits, made small, and everything put back."""

import warnings
from dataclasses import asdict

import numpy as np
import pytest

from skfeat import warm_up as module
from skfeat.kernels._limits import LIMITS
from skfeat.warm_up import warm_up


def test_small_problems_run_as_large_ones(monkeypatch, capsys):
    pytest.importorskip("numba")
    before, seen = asdict(LIMITS), {}
    monkeypatch.setattr(module, "_fits", lambda: {"a fit": lambda: seen.update(now())})
    assert list(warm_up()) == ["a fit"]
    assert seen == {name: 0 for name in before if name.startswith("compiled_")}
    assert asdict(LIMITS) == before
    assert capsys.readouterr().out.startswith("a fit: 0.0 s")


def now():
    return {k: v for k, v in asdict(LIMITS).items() if k.startswith("compiled_")}


def test_limits_come_back_after_a_failure(monkeypatch):
    pytest.importorskip("numba")
    before = asdict(LIMITS)
    monkeypatch.setattr(module, "_fits", lambda: {"a fit": lambda: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        warm_up(verbose=0)
    assert asdict(LIMITS) == before


def test_without_numba(monkeypatch):
    monkeypatch.setattr(module, "has_numba", lambda: False)
    with pytest.raises(ImportError, match="warm_up needs numba"):
        warm_up()


def test_verbose_is_checked():
    with pytest.raises(ValueError, match=r"'verbose' parameter must be 0 or 1\. Got 2"):
        warm_up(verbose=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(module._fits()))
def test_every_fit_runs_compiled(name, monkeypatch):
    pytest.importorskip("numba")
    from skfeat.kernels._threads import Team

    calls = []
    run = Team.run
    monkeypatch.setattr(
        Team, "run", lambda self, *args, **kw: calls.append(1) or run(self, *args, **kw)
    )
    with module._as_large_fits(), warnings.catch_warnings():
        # These fits are too short to be of use, and some say so.
        warnings.simplefilter("ignore")
        result = module._fits()[name]()
    assert calls
    assert np.isfinite(result).all()
