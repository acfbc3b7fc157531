"""What a page holds, read as its script reads it."""

import base64
import json
import zlib
from typing import Any

import numpy as np


def unpack(packed: str) -> Any:
    """Return what `skfeat.explorer._pack.pack` was given, floats to four digits."""
    data = zlib.decompress(base64.b64decode(packed))
    start = 4 + int.from_bytes(data[:4], "little")

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"array", "at", "n"}:
                place = start + value["at"]
                return np.frombuffer(data, f"<{value['array']}", value["n"], place)
            return {key: read(item) for key, item in value.items()}
        return [read(item) for item in value] if isinstance(value, list) else value

    return read(json.loads(data[4:start]))
