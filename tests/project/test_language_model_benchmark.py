"""The parts of the language-model benchmark, and a run of it from end to end."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from _language_model_text import bytes_of, clean, split_books, train_tokenizer, windows

from tests.project.test_benchmarks import run

BOOK = (
    "Produced by someone\n\n\nCHAPTER I\n\nIt was a\ndark night.  \r\n\r\n"
    "“Who is there?”\n\nEnd of the Project Gutenberg EBook of X\n\nLicence\n"
)


def test_cleaned_text():
    expected = "CHAPTER I\nIt was a dark night.\n“Who is there?”\n"
    assert clean(BOOK) == expected
    assert clean(f"Head\n*** START OF THE EBOOK X ***\n{BOOK}") == expected
    assert "Licence" not in clean("Text.\n\n*** END OF THIS EBOOK ***\nLicence\n")


def test_split_text_is_whole():
    books = {"a": "one two\n" * 40, "b": "three\n" * 25}
    training, held_out = split_books(books)
    for text, first, last in zip(books.values(), training, held_out, strict=True):
        assert first + last == text
        assert first.endswith("\n")
        assert 0.05 < len(last) / len(text) <= 0.1


def test_windows():
    parts = [np.arange(1, 12), np.arange(20, 24)]
    np.testing.assert_array_equal(
        windows(parts, 4, 0, offset=1),
        [[0, 2, 3, 4], [0, 5, 6, 7], [0, 8, 9, 10], [0, 21, 22, 23]],
    )


def test_tokens_stand_for_all_bytes():
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    text = clean(BOOK)
    tokenizer = train_tokenizer([text], 300)
    ids = np.asarray(tokenizer(text)["input_ids"])
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text.encode())
    assert bytes_of(tokenizer, ids) == len(text.encode())
    assert bytes_of(tokenizer, np.append(0, ids)) == len(text.encode())


@pytest.mark.slow
def test_language_model(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    pytest.importorskip("matplotlib")
    if not (Path(os.environ.get("SKFEAT_DATA", "")) / "text").is_dir():
        pytest.skip("the books are not there: SKFEAT_DATA names no folder with text/")
    cache = tmp_path / "cache"
    options = ["--smoke", "--cache", cache, "--pictures", tmp_path / "made"]
    done = run("language_model.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Model tiny" in done.stdout
    assert "Cross-entropy with the MLP's output replaced" in done.stdout
    assert "nan" not in done.stdout
    names = [path.name for path in (tmp_path / "made").iterdir()]
    assert all(name.endswith((".html", ".png")) for name in names)
    assert done.stdout.count("fires on") == sum(n.endswith(".html") for n in names)
    assert any(name.startswith("or_0_layer1_OF1_") for name in names)
    assert {path.name for path in (cache / "tiny").iterdir()} >= {
        *("config.json", "model.safetensors", "tokenizer.json", "training.json")
    }


@pytest.mark.slow
def test_language_model_whole(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    pytest.importorskip("matplotlib")
    if not (Path(os.environ.get("SKFEAT_DATA", "")) / "text").is_dir():
        pytest.skip("the books are not there: SKFEAT_DATA names no folder with text/")
    made = tmp_path / "made"
    options = ["--smoke", "--seeds", "1", "--cache", tmp_path, "--pictures", made]
    done = run("language_model_whole.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("10 weights", "transcoders, apart", "random features", "mean", "zero"):
        assert done.stdout.count(f"\n{name}  ") >= 3
    assert "'correlation'" in done.stdout
    assert sorted(path.name for path in made.iterdir()) == [
        "prompt_0.html",
        "prompt_0.png",
    ]


@pytest.mark.slow
def test_transcoder_quality(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    pytest.importorskip("safetensors")
    if not (Path(os.environ.get("SKFEAT_DATA", "")) / "text").is_dir():
        pytest.skip("the books are not there: SKFEAT_DATA names no folder with text/")
    options = ["--smoke", "--seeds", "1", "--cache", tmp_path]
    done = run("transcoder_quality.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (
        "top-k",
        "top-k, rate 0.02",
        "top-k, skip",
        "batch top-k",
        "jump-ReLU",
    ):
        assert done.stdout.count(f"  skfeat, {name}  ") == 2  # MLPs of the tiny model
    assert "files -> skfeat: predictions differ by 0.0e+00" in done.stdout


@pytest.mark.slow
def test_encoder_whole(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    if not (Path(os.environ.get("SKFEAT_DATA", "")) / "text").is_dir():
        pytest.skip("the books are not there: SKFEAT_DATA names no folder with text/")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "and", "of", "a"]
    tokenizer = transformers.BertTokenizerFast(
        vocab={word: number for number, word in enumerate(words)}
    )
    tokenizer.save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    with torch.random.fork_rng(devices=[]):
        transformers.BertModel(config).save_pretrained(tmp_path)
    options = ["--smoke", "--seeds", "1", "--encoder", tmp_path]
    done = run("encoder_whole.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("10 weights", "transcoders", "mean"):
        assert done.stdout.count(f"\n{name}  ") == 1
    assert "nan" not in done.stdout
