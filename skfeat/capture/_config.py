"""What the configuration of a transformers model says about tokens and arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

_SPECIAL = ("bos", "eos", "pad", "sep", "cls", "decoder_start")

# Where composite models keep the configurations of their text parts. The encoder's is
# added where it reads text: that of an audio encoder numbers tokens of its own.
_TEXT_PARTS = (
    "text_config",
    "decoder",
    "decoder_config",
    "generator",
    "text_encoder",
    "llm_config",
    "language_config",
    "thinker_config",
)


def special_tokens_of(model: nn.Module) -> list[int]:
    """Return the tokens that begin, end, pad or separate text, of all text parts."""
    return _token_ids(
        _text_configs(model), re.compile(rf"({'|'.join(_SPECIAL)})_token")
    )


def reserved_tokens_of(model: nn.Module) -> list[int]:
    """Return all tokens with a meaning of their own, such as that of an image."""
    return _token_ids(_text_configs(model), re.compile(r"\w+_token"))


def is_transformers_model(model: nn.Module) -> bool:
    """Whether a model derives from the PreTrainedModel of transformers."""
    return any(
        base.__name__ == "PreTrainedModel"
        and base.__module__.startswith("transformers.")
        for base in type(model).__mro__
    )


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether a transformers model has an encoder and a decoder with own tokens."""
    config = getattr(model, "config", None)
    return bool(getattr(config, "is_encoder_decoder", False))


def _text_configs(model: nn.Module) -> Iterator[Any]:
    """Yield the configuration of a model, and those of its text parts."""
    parts = list(_TEXT_PARTS)
    if getattr(model, "main_input_name", None) == "input_ids":
        parts.append("encoder")
    waiting, seen = [getattr(model, "config", None)], set[int]()
    while waiting:
        config = waiting.pop()
        if config is None or id(config) in seen:
            continue
        seen.add(id(config))
        yield config
        waiting += [_entry(config, name) for name in parts]


def _entry(config: Any, name: str) -> Any:
    if isinstance(config, dict):
        return config.get(name)
    value = getattr(config, name, None)
    # Only what looks like a configuration: an attribute of this name may be a string.
    return value if isinstance(value, dict) or hasattr(value, "__dict__") else None


def _token_ids(configs: Iterator[Any], wanted: re.Pattern[str]) -> list[int]:
    found: set[int] = set()
    pattern = re.compile(rf"(?:{wanted.pattern})_(?:id|ids|index)")
    for config in configs:
        names = config if isinstance(config, dict) else dir(config)
        for name in names:
            if not (isinstance(name, str) and pattern.fullmatch(name)):
                continue
            value = config[name] if isinstance(config, dict) else getattr(config, name)
            values = value if isinstance(value, list | tuple) else [value]
            found |= {int(token) for token in values if isinstance(token, int)}
    return sorted(found)
