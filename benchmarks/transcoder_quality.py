"""Transcoders of a language model's MLPs beside those of sparsify, at equal k.

Rows are what each MLP of the preset "testbed" reads and computes (the model is trained
on the books of ``SKFEAT_DATA`` the first time, and kept in a folder). Each transcoder
sees the same rows in as many epochs of equal batches, with k active features a row.
On held-out text it measures R2 of the prediction, active features, features that fire
for no row, and the nats a token that the model loses with this one MLP replaced; and
the processor time of a row and epoch.

sparsify trains with its own optimizers, signs (its default) and Adam, each at its own
learning rate and at shares of it; the one with the largest R2 on held-out rows with the
first seed is kept, which favours it. SAELens 6.54 trains no transcoders: it has classes
for them, which load files. Files go to and from both libraries; what is reported is the
largest difference of predictions, relative to the largest of them.

``python benchmarks/transcoder_quality.py`` in the environment of
``requirements-peers.txt`` writes ``records/transcoder_quality.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from _common import mean_and_spread, print_table, read_record, write_record
from _language_model_layers import batches, some
from _language_model_text import encode, load_books, split_books, windows
from _language_model_training import PRESETS, cached_model, mean_loss
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score

from skfeat import Transcoder
from skfeat.capture import capture
from skfeat.interop import (
    read_saelens_transcoder,
    read_sparsify_transcoder,
    write_saelens_transcoder,
)


@dataclass(frozen=True)
class Plan:
    """How large the experiment is; rows are tokens."""

    n_rows: int = 100_000
    n_held_out: int = 20_000
    n_features: int = 512
    k: int = 16
    epochs: int = 4
    batch_size: int = 512
    shares: tuple = (1.0, 0.3, 0.1)  # of a peer's own learning rate


SMOKE = Plan(4_000, 2_000, 64, 6, 1, 512, (1.0,))

# Ours, with their own learning rate but for one.
OURS = {
    "skfeat, top-k": {},
    "skfeat, top-k, rate 0.02": {"learning_rate_init": 0.02},
    "skfeat, top-k, skip": {"skip": True},
    "skfeat, batch top-k": {"activation": "batch_topk"},
    "skfeat, jump-ReLU": {"activation": "jumprelu"},
}


def ours(options, plan, seed):
    """Return a transcoder of ours that is not fitted."""
    held = {"k": plan.k}
    if options.get("activation") == "jumprelu":
        held = {"l0": plan.k}
    return Transcoder(
        plan.n_features,
        max_iter=plan.epochs,
        batch_size=plan.batch_size,
        random_state=seed,
        **held,
        **options,
    )


class Sparsify:
    """sparsify's `SparseCoder` as a transcoder, and the step of its `Trainer`.

    The trainer runs a whole model for each batch, so that its step is written out here:
    biases start from the means of the first batch, decoder rows from zero, and the loss
    is the unexplained share of the batch's variance.

    Parameters
    ----------
    optimizer : {"signum", "adam"}
        Signs, averaged by schedule-free, are its default. Adam has its linear warm-up,
        a tenth of the run, and falls to zero.
    share : float
        Of its own learning rate.
    skip : bool
    plan : Plan
    seed : int
    """

    def __init__(self, optimizer, share, skip, plan, seed):
        self.optimizer, self.share, self.skip = optimizer, share, skip
        self.plan, self.seed = plan, seed

    def fit(self, X, Y):
        """Train on rows (n, d) of what is read and computed."""
        from sparsify import SparseCoder, SparseCoderConfig

        plan = self.plan
        config = SparseCoderConfig(
            num_latents=plan.n_features,
            k=plan.k,
            transcode=True,
            skip_connection=self.skip,
        )
        torch.manual_seed(self.seed)
        coder = self.coder = SparseCoder(X.shape[1], config, dtype=torch.float32)
        X, Y = torch.from_numpy(X), torch.from_numpy(Y)
        n_steps = plan.epochs * (len(X) // plan.batch_size)
        step, schedule = self._optimizer(n_steps)
        for epoch in range(plan.epochs):
            for chosen in torch.randperm(len(X)).split(plan.batch_size):
                if len(chosen) < plan.batch_size:
                    continue
                x, y = X[chosen], Y[chosen]
                if not epoch and not coder.b_dec.any():
                    coder.encoder.bias.data = -x.mean(0) @ coder.encoder.weight.data.T
                    coder.b_dec.data = y.mean(0)
                coder(x, y).fvu.backward()
                step.step()
                step.zero_grad()
                if schedule is not None:
                    schedule.step()
        if schedule is None:
            step.eval()  # puts the averaged weights in place
        return self

    def _optimizer(self, n_steps):
        width = (2**14 / self.plan.n_features) ** 0.5
        parameters = self.coder.parameters()
        if self.optimizer == "signum":
            from schedulefree import ScheduleFreeWrapper
            from sparsify.sign_sgd import SignSGD

            signs = SignSGD(parameters, lr=5e-3 * width * self.share)
            step = ScheduleFreeWrapper(signs, momentum=0.95)
            step.train()
            return step, None
        from transformers import get_linear_schedule_with_warmup

        step = torch.optim.Adam(parameters, lr=2e-4 * width * self.share)
        return step, get_linear_schedule_with_warmup(step, n_steps // 10, n_steps)

    @torch.no_grad()
    def predict(self, X):
        """Return the predictions of rows."""
        return self.coder(torch.from_numpy(X)).sae_out.numpy()

    @torch.no_grad()
    def transform(self, X):
        """Return the codes of rows."""
        top = self.coder.encode(torch.from_numpy(X))
        codes = torch.zeros_like(top.pre_acts)
        return codes.scatter(1, top.top_indices, top.top_acts).numpy()


def fit(transcoder, X, Y):
    """Fit a transcoder; return the processor microseconds of a row and epoch."""
    start = time.process_time()
    with warnings.catch_warnings():
        # The number of epochs is what the benchmark can afford; dead features are
        # counted on held-out text.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", ".* features are dead")
        transcoder.fit(X, Y)
    return time.process_time() - start


@torch.no_grad()
def loss_with(model, rows, module, transcoder=None):
    """Return the model's loss with an MLP replaced by a transcoder."""

    def replace_output(_, args, output):
        read = args[0].reshape(-1, args[0].shape[-1]).numpy()
        return torch.from_numpy(transcoder.predict(read)).reshape(output.shape)

    hook = None
    if transcoder is not None:
        hook = model.get_submodule(module).register_forward_hook(replace_output)
    try:
        parts = rows.split(32)
        losses = [mean_loss(model, part).item() for part in parts]
    finally:
        if hook is not None:
            hook.remove()
    return float(np.average(losses, weights=[len(part) for part in parts]))


def measure(transcoder, held_out, seconds, plan):
    """Return the figures of a fitted transcoder on held-out rows."""
    X, Y = held_out
    active = transcoder.transform(X) != 0
    return {
        "R2": float(
            r2_score(Y, transcoder.predict(X), multioutput="variance_weighted")
        ),
        "L0": float(active.sum(axis=1).mean()),
        "dead": int((~active.any(axis=0)).sum()),
        "us a row": 1e6 * seconds / plan.n_rows / plan.epochs,
    }


def choose_rates(rows, held_out, plan):
    """Return what of sparsify does best, an optimizer and a share, and what all do."""
    found = []
    for optimizer in ("signum", "adam"):
        for share in plan.shares:
            peer = Sparsify(optimizer, share, False, plan, 0)
            peer.fit(*rows)
            r2 = r2_score(
                held_out[1], peer.predict(held_out[0]), multioutput="variance_weighted"
            )
            found.append({"optimizer": optimizer, "share": share, "R2": float(r2)})
            print(found[-1], flush=True)
    best = max(found, key=lambda one: one["R2"])
    return (best["optimizer"], best["share"]), found


def makers_of(plan, best):
    """Return functions that make the transcoder of a seed, by its name.

    `best` is an optimizer and a share of its rate for sparsify; None leaves it out.
    """
    makers = {
        name: lambda seed, options=options: ours(options, plan, seed)
        for name, options in OURS.items()
    }
    for skip in (False, True) if best else ():
        makers[f"sparsify, top-k{', skip' * skip}"] = lambda seed, skip=skip: Sparsify(
            *best, skip, plan, seed
        )
    return makers


def has_sparsify():
    """Tell whether sparsify is installed."""
    try:
        import sparsify  # noqa: F401
    except ImportError:
        return False
    return True


def round_trips(rows, plan):
    """Return the largest relative difference of predictions through files."""
    X, Y = rows[0][:2048], rows[1][:2048]
    short = replace(plan, epochs=1, batch_size=256)
    found = {}

    def note(case, first, second):
        found[case] = float(np.abs(first - second).max() / np.abs(first).max())

    with tempfile.TemporaryDirectory() as folder:
        if has_sparsify():
            for skip in (False, True):
                peer = Sparsify("adam", 1.0, skip, short, 0).fit(X, Y)
                peer.coder.save_to_disk(f"{folder}/sparsify{skip}")
                read = read_sparsify_transcoder(f"{folder}/sparsify{skip}")
                case = f"sparsify{', skip' * skip} -> skfeat"
                note(case, peer.predict(X), read.predict(X))
        for skip in (False, True):
            options = {"activation": "jumprelu", "skip": skip}
            transcoder = ours(options, short, 0)
            fit(transcoder, X, Y)
            path = f"{folder}/lens{skip}"
            write_saelens_transcoder(transcoder, path)
            expected = transcoder.predict(X)
            case = f"skfeat{', skip' * skip} -> SAELens"
            if (loaded := load_in_saelens(path)) is not None:
                note(case, expected, loaded(X))
            again = read_saelens_transcoder(path).predict(X)
            note(f"{case}'s files -> skfeat", expected, again)
    return found


def load_in_saelens(path):
    """Return the function that SAELens makes of a file, None without SAELens."""
    try:
        from sae_lens import SAE
    except ImportError:
        return None
    sae = SAE.load_from_disk(path)

    @torch.no_grad()
    def predict(X):
        x = torch.from_numpy(X)
        output = sae.decode(sae.encode(x))
        skip = getattr(sae, "W_skip", None)
        return (output if skip is None else output + x @ skip.T).numpy()

    return predict


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default=None)
    parser.add_argument("--cache", help="folder in which trained models are kept")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int)
    parser.add_argument(
        "--names", nargs="+", choices=OURS, help="replaces rows of the record alone"
    )
    parser.add_argument("--mlps", type=int, help="how many, from the first")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    given = parser.parse_args()
    plan = SMOKE if given.smoke else Plan()
    plan = replace(plan, n_rows=given.rows) if given.rows else plan
    preset = given.preset or ("tiny" if given.smoke else "testbed")
    model, tokenizer, about = cached_model(preset, given.cache)
    training, held_out = (
        windows(
            encode(tokenizer, texts), PRESETS[preset].context, tokenizer.bos_token_id
        )
        for texts in split_books(load_books())
    )
    training = some(training, plan.n_rows, 0)
    held_out = some(held_out, plan.n_held_out)
    modules = [f"gpt_neox.layers.{i}.mlp" for i in range(PRESETS[preset].n_layers)]
    modules = modules[: given.mlps]
    fitted, seen = (
        [
            capture(model, batches(text), modules, what=what).activations
            for what in ("input", "output")
        ]
        for text in (training, held_out)
    )
    original = loss_with(model, held_out, None)
    record = {"model": {"model": preset, **about}, "run": asdict(plan), "rows": []}
    if given.names:
        record = read_record("transcoder_quality")
        record["rows"] = [row for row in record["rows"] if row["by"] not in given.names]
    best = None
    for number, module in enumerate(modules):
        rows, unseen = ([part[module] for part in parts] for parts in (fitted, seen))
        if not number and not given.names:
            record["files"] = round_trips(rows, plan)
            if has_sparsify():
                best, record["rates of sparsify"] = choose_rates(rows, unseen, plan)
        makers = makers_of(plan, best)
        makers = {name: makers[name] for name in given.names or makers}
        for seed in range(given.seeds):
            for name, make in makers.items():
                transcoder = make(seed)
                seconds = fit(transcoder, *rows)
                figures = measure(transcoder, unseen, seconds, plan)
                lost = loss_with(model, held_out, module, transcoder) - original
                record["rows"].append(
                    {"MLP": number + 1, "by": name, "seed": seed, **figures}
                    | {"nats lost": lost}
                )
                print(record["rows"][-1], flush=True)
            if not given.smoke:
                write_record("transcoder_quality", record)
    print_all(record)


def print_all(record):
    """Print means and spreads over seeds, and the round trips of files."""
    same = {}
    for row in record["rows"]:
        same.setdefault((row["MLP"], row["by"]), []).append(row)
    columns = ("R2", "L0", "dead", "nats lost", "us a row")
    print_table(
        [
            {"MLP": str(number), "by": name}
            | {key: mean_and_spread([row[key] for row in rows]) for key in columns}
            for (number, name), rows in same.items()
        ],
        ["MLP", "by", *columns],
    )
    for case, difference in record.get("files", {}).items():
        print(f"{case}: predictions differ by {difference:.1e} of the largest")


if __name__ == "__main__":
    main()
