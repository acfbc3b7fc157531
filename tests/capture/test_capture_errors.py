"""Bad input to a capture gets one sentence; progress is reported."""

import pytest
import torch
from torch import nn

from skfeat.capture import Progress, capture
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.capture.test_capture import LM_BATCHES, TinyLM, float_batches, mlp, tokens


def test_progress(capsys):
    seen = []
    capture(TinyLM(), LM_BATCHES, "mlp", special_tokens=None, callback=seen.append)
    assert [type(progress) for progress in seen] == 6 * [Progress]
    assert [progress.n_batches for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert [progress.n_rows for progress in seen] == [10, 20, 30, 40, 50, 60]
    assert [progress.n_sequences for progress in seen] == [2, 4, 6, 8, 10, 12]
    assert seen[-1].seconds >= seen[0].seconds >= 0
    assert capsys.readouterr().out == ""
    capture(TinyLM(), LM_BATCHES, "mlp", special_tokens=None, verbose=1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[capture] 6 batches, 60 rows, ")
    capture(TinyLM(), LM_BATCHES, "mlp", verbose=2)
    assert len(capsys.readouterr().out.splitlines()) == 7


BAD = {
    "model": ({"model": 3}, TypeError, "model must be a torch.nn.Module"),
    "class": ({"model": TinyLM}, TypeError, "model must be a torch.nn.Module instance"),
    "batches": (
        {"batches": tokens(2, 3)},
        TypeError,
        "such as a list of one batch. Got a T",
    ),
    "dict": ({"batches": {"input_ids": tokens(2, 3)}}, TypeError, "Got a dict instead"),
    "number": ({"batches": 3}, TypeError, "batches must be an iterable"),
    "no batch": ({"batches": []}, ValueError, "batches is empty"),
    "text": ({"batches": ["hello"]}, TypeError, "Batch 0 is a str without any"),
    "empty tuple": ({"batches": [()]}, TypeError, "Batch 0 is a tuple without any"),
    "unknown": (
        {"modules": "zzz"},
        ValueError,
        "modules of Odd. Got 'zzz' instead; see",
    ),
    "near": ({"modules": ["mpl"]}, ValueError, "Got 'mpl' instead; did you mean 'mlp'"),
    "near deep": (
        {"modules": "attention.prj"},
        ValueError,
        "did you mean 'attention.proj' or",
    ),
    "none": ({"modules": []}, ValueError, r"modules must be .* Got \[\] instead"),
    "ints": ({"modules": [1]}, ValueError, r"name. Got \[1\] instead"),
    "int": ({"modules": 1}, ValueError, "name. Got 1 instead"),
    "twice": ({"modules": ["mlp", "mlp"]}, ValueError, "must hold each name once"),
    "what": ({"what": "both"}, ValueError, "what must be 'input' or 'output'. Got"),
    "index": ({"index": -1}, ValueError, "index must be None or an int of at least 0"),
    "index bool": ({"index": True}, ValueError, "index must be None or"),
    "dtype": ({"dtype": "int8"}, ValueError, "dtype must be one of 'float16', 'fl"),
    "no dtype": ({"dtype": None}, ValueError, "dtype must be one of"),
    "odd dtype": ({"dtype": "f99"}, ValueError, "Got 'f99' instead"),
    "padding": ({"keep_padding": 1}, ValueError, "keep_padding must be a bool. Got 1"),
    "special": ({"special_tokens": "bos"}, ValueError, "special_tokens must be 'auto'"),
    "special 2": ({"special_tokens": [0.5]}, ValueError, r"Got \[0.5\] instead"),
    "special 3": ({"special_tokens": 5}, ValueError, "Got 5 instead"),
    "callback": ({"callback": 3}, TypeError, "callback must be None or callable"),
    "verbose": ({"verbose": "yes"}, ValueError, "verbose must be .* Got 'yes' instead"),
    "no verbose": ({"verbose": None}, ValueError, "verbose must be a bool or an int"),
    "verbose -1": ({"verbose": -1}, ValueError, "verbose must be .* Got -1 instead"),
    "index of a tensor": ({"index": 1}, ValueError, "'mlp' holds no tensor at index 1"),
    "unknown token": (
        {"batches": [tokens(2, 5), tokens(2, 5) + 20]},
        ValueError,
        r"model does not run on batch 1 \(input_ids: torch.int64 .*: index out of",
    ),
    "float tokens": (
        {"batches": [torch.ones(2, 5)]},
        ValueError,
        r"input_ids of batch 0 must be .* Got torch.float32 of shape \(2, 5\) instead",
    ),
    "small tokens": (
        {"batches": [tokens(2, 5).to(torch.uint8)]},
        ValueError,
        r"input_ids of batch 0 must be .* Got torch.uint8 of shape \(2, 5\) instead",
    ),
    "labels": (
        {"batches": [(tokens(2, 5), tokens(2, 5, low=3))]},
        ValueError,
        r"attention_mask of batch 0 must be 1 at tokens and 0 .* Got \[3.* instead",
    ),
    **{
        f"mask {value}": (
            {"batches": [(tokens(2, 5), torch.full((2, 5), value))]},
            ValueError,
            rf"mask of batch 0 must be 1 at tokens and 0 .* Got \[{value}.*\] in it",
        )
        for value in (2, -1, 0.5, float("nan"))
    },
    "nowhere": ({"model": TinyLM().to("meta")}, ValueError, "the device 'meta' have"),
    "not run": ({"modules": "unused"}, ValueError, "'unused' runs not at all"),
    "runs twice": ({"modules": "twice"}, ValueError, "'twice' runs 2 times"),
    "pooled": (
        {"modules": "pooled"},
        ValueError,
        r"rows of shape \(2,\) for",
    ),
    "images": (
        {"modules": "images"},
        ValueError,
        r"rows of shape \(2, 5, 1\) for",
    ),
    "no number": ({"modules": "text"}, ValueError, r"output of 'text' holds no"),
    "whole": ({"modules": "whole"}, ValueError, "real numbers of two or three dim"),
    "nan": ({"modules": "nan"}, ValueError, "not finite in dtype='float32'"),
    "large": (
        {"modules": "large", "dtype": "float16"},
        ValueError,
        "output of 'large' for batch 0 has values .* not finite in dtype='float16'",
    ),
    "mask": (
        {"batches": [{"input_ids": tokens(2, 5), "attention_mask": torch.ones(2, 4)}]},
        ValueError,
        r"attention_mask of batch 0 must .* Got \(2, 4\) instead",
    ),
    "mask 4-D": (
        {"batches": [(tokens(2, 5), torch.ones(2, 1, 5, 5))]},
        ValueError,
        "must have the shape of input_ids",
    ),
}


class Odd(TinyLM):
    """Has modules that give what no capture can keep."""

    def __init__(self):
        super().__init__()
        for name in ("unused", "twice", "pooled", "images", "whole", "nan", "large"):
            setattr(self, name, nn.Identity())
        self.text = Text()

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        self.twice(self.twice(x))
        self.pooled(x.mean(1))
        self.images(x[..., None, :])
        self.whole(input_ids)
        self.nan(x * torch.nan)
        self.large(x * 1e30)
        self.text(x)
        return super().forward(input_ids)


class Text(nn.Module):
    def forward(self, x):
        return "text", {"more": None}


@pytest.mark.parametrize(("change", "error", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_sentence(tmp_path, change, error, match):
    usual = {"model": Odd(), "batches": [tokens(2, 5)], "modules": "mlp"}
    for out in (None, tmp_path / "rows"):
        before = snapshot(usual["model"])
        with pytest.raises(error, match=match):
            capture(**{**usual, **change}, out=out)
        assert_untouched(usual["model"], before)


def test_what_a_batch_is_refused_for_is_chained():
    with pytest.raises(ValueError, match="does not run on batch 0") as info:
        capture(TinyLM(), [tokens(2, 5) + 20], "mlp")
    assert isinstance(info.value.__cause__, IndexError)


def test_other_errors_are_their_own():
    model = TinyLM()

    class Memory(RuntimeError):
        pass

    def fail(*args):
        raise Memory

    model.mlp.register_forward_hook(fail)
    with pytest.raises(Memory):
        capture(model, [tokens(2, 5)], "mlp")


def test_progress_is_asked_for_before_anything_runs():
    with pytest.raises(ValueError, match="verbose must be a bool"):
        capture(TinyLM(), iter(()), "mlp", verbose="yes")


def test_special_tokens_need_tokens():
    with pytest.raises(ValueError, match="special_tokens lists tokens, but batch 0"):
        capture(mlp(), float_batches(3), "0", special_tokens=[3])


def test_batches_of_another_kind(tmp_path):
    model = TinyLM()

    class Embeds(TinyLM):
        def forward(self, input_ids=None, inputs_embeds=None):
            if inputs_embeds is None:
                inputs_embeds = self.embed(input_ids)
            return self.mlp(inputs_embeds)

    mixed = [{"input_ids": tokens(2, 3)}, {"inputs_embeds": torch.ones(2, 3, 6)}]
    wide = [torch.ones(2, 3), torch.ones(2, 4)]
    for out in (None, tmp_path / "rows"):
        with pytest.raises(ValueError, match="all have token ids or none; batch 1"):
            capture(Embeds(), mixed, "mlp", out=out)
    for out in (None, tmp_path / "wide"):
        with pytest.raises(ValueError, match=r"Batch 1 has \(4,\), those before it"):
            capture(nn.Identity(), wide, "", out=out)
    assert model.training
