"""A language model's MLPs as sparse linear maps between features.

Trains a small model of Pythia's architecture on the books of ``SKFEAT_DATA``, or takes
one of transformers.
"""

from __future__ import annotations

import argparse

from _language_model_training import PRESETS, cached_model, load_model


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--cache", help="where trained models are kept")
    parser.add_argument("--model", help="a causal language model of transformers")
    options = parser.parse_args()
    if options.model:
        load_model(options.model)
    else:
        _, _, training = cached_model(options.preset, options.cache)
        print(training)


if __name__ == "__main__":
    main()
