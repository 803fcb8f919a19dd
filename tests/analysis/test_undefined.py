"""Layers without a direction, checkpoints before training, too few of anything: null with a note, and no harm beside."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pytest
import torch

import gammatorch
from gammatorch.bench.worlds import draw
from gammatorch.reports.analysis import print_analysis
from gammatorch.reports.console import make_console

UNDEFINED = {
    "step 0": torch.ones(12, 64),
    "one layer": torch.rand(1, 64) + 0.5,
    "two layers": torch.rand(2, 64) + 0.5,
    "identical layers": (torch.rand(64) + 0.5).repeat(12, 1),
    "more layers than channels": torch.rand(40, 12) + 0.5,
    "two channels": torch.rand(6, 2) + 0.5,
    "one channel": torch.rand(6, 1) + 0.5,
    "one constant layer": torch.cat([torch.rand(11, 64) + 0.5, torch.ones(1, 64)]),
    "one zero layer": torch.cat([torch.rand(11, 64) + 0.5, torch.zeros(1, 64)]),
    "one zero layer of two": torch.cat([torch.zeros(1, 64), torch.rand(1, 64) + 0.5]),
    "zero layers": torch.zeros(7, 64),
    "one zero layer alone": torch.zeros(1, 64),
    "a zero layer before training": torch.ones(12, 64) * torch.tensor([1.0] * 11 + [0.0])[:, None],
    "every other layer is zero": torch.from_numpy(draw("drift", 1, 24, 512))
    * torch.tensor([0.0, 1.0]).repeat(12)[:, None],
    "five layers that vary": torch.cat([torch.rand(5, 64) + 0.5, torch.ones(1, 64), torch.zeros(1, 64)]),
}
LIVING = (
    "two layers",
    "more layers",
    "two channels",
    "one constant layer",
    "one zero layer",
    "five layers",
    "every other",
)


@pytest.mark.parametrize("method", ["svd", "gram", "project"])
@pytest.mark.parametrize("name", UNDEFINED)
def test_what_is_undefined_is_null_with_a_note(name, method):
    analysis = gammatorch.analyze(UNDEFINED[name].double(), method=method)
    document = analysis.to_dict()
    json.dumps(document, allow_nan=False)
    living = name.startswith(LIVING) and name != "one zero layer of two" and "alone" not in name
    assert (document["answer"]["verdict"] != "degenerate") == living
    assert analysis.notes or name == "more layers than channels"
    assert living or name == "identical layers" or document["statistics"]["mean_pearson"]["value"] is None
    printed = StringIO()
    print_analysis(analysis, make_console(printed))
    assert "nan" not in printed.getvalue() and "None" not in printed.getvalue()


@pytest.mark.parametrize("method", ["svd", "gram", "project"])
@pytest.mark.parametrize("name", ["phases", "drift"])
@pytest.mark.parametrize("dead", [0, 7, 23])
def test_a_dead_layer_is_null_and_leaves_the_others_as_they_are(name, method, dead):
    others = torch.from_numpy(draw(name, 3, 23, 700))
    gamma = torch.cat([others[:dead], torch.zeros(1, 700, dtype=others.dtype), others[dead:]])
    rows = [row for row in range(24) if row != dead]
    found, alone = gammatorch.analyze(gamma, method=method), gammatorch.analyze(others, method=method)
    assert f"zero gain in layer {dead}: " in found.notes[0]
    assert float(found.norms[dead]) == 0 and found.answer.verdict == alone.answer.verdict
    for tensor in (found.proj_top1, found.residual_top1, found.cosine, found.cosine.mT, *per_layer(found)):
        assert bool(tensor[dead].isnan().all())
        assert bool(tensor[rows][..., rows if tensor.ndim == 2 else ...].isfinite().all())
    close = dict(rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.cosine[rows][:, rows], alone.cosine, **close)
    for ours, theirs in zip(per_layer(found), per_layer(alone), strict=True):
        torch.testing.assert_close(ours[rows], theirs, **close)
    for one in ("singular_values", "explained_var"):
        torch.testing.assert_close(getattr(found, one)[:-1], getattr(alone, one)[:-1], **close)  # the last is rounding
    torch.testing.assert_close(found.proj_top1[rows], alone.proj_top1, rtol=0, atol=1e-9)
    for one in ("shared_energy", "mean_pearson", "effective_dimension", "first_eigenvalue", "effective_rank"):
        torch.testing.assert_close(found.statistics[one], alone.statistics[one], **close)
    starts = [layer + (layer >= dead) for layer in alone.statistics["change_points"]]
    assert found.statistics["change_points"] == starts


def per_layer(analysis):
    return [analysis.statistics[name] for name in ("cos_ones", "shared_projection")]


def test_a_degenerate_checkpoint_leaves_the_rest_of_its_batch_as_it_is():
    """A step-0 checkpoint, one with a dead layer and a dead one, among trained ones."""
    batch = torch.stack([torch.from_numpy(draw("drift", seed, 24, 512)) for seed in range(6)])
    batch[0] = 1
    batch[2, 5] = 0
    batch[4] = 0
    together = gammatorch.analyze(batch)
    for one, gamma in zip(together, batch, strict=True):
        alone = gammatorch.analyze(gamma, method="gram")
        assert one.answer == alone.answer and one.notes == alone.notes
        for name in ("statistics", "proj_top1", "explained_var", "cosine", "phases"):
            ours, theirs = one.to_dict()[name], alone.to_dict()[name]
            np.testing.assert_equal(_structure(ours), _structure(theirs))
        torch.testing.assert_close(one.cosine, alone.cosine, rtol=0, atol=1e-13, equal_nan=True)
    verdicts = [one.answer.verdict for one in together]
    assert verdicts == ["degenerate", "drift", "drift", "drift", "degenerate", "drift"]


def _structure(value):
    """A document with its numbers rounded, to compare where it is null."""
    if isinstance(value, dict):
        return {name: _structure(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_structure(item) for item in value]
    return round(value, 7) + 0.0 if isinstance(value, float) else value
