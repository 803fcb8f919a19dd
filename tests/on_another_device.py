"""The whole pipeline on a device that is not the CPU: nothing is computed beside it, and the numbers are the CPU's.

``test_another_device.py`` runs this in a process of its own.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import gammatorch
from benchmarks.device_jobs import jobs
from benchmarks.pretend_device import DEVICE, NAME, Pretending, counted, register
from gammatorch import errors
from gammatorch.analysis.analyze import analyze_together
from gammatorch.analysis.pca import Triangle
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.held import HeldSource
from gammatorch.gains import device, stream, wide
from gammatorch.sweep.analysing import analyse
from gammatorch.sweep.item import Item, Settings
from gammatorch.sweep.reading import Loaded

METHODS = [
    {"method": "svd"},
    {"method": "gram"},
    {"method": "project", "dims": 512},
    {"method": "svd", "dtype": "float32"},
    {"method": "gram", "dtype": "float32"},
    {"fingerprint": True},
]


@pytest.fixture
def on_device(monkeypatch):
    """The device, chosen by its name as any other."""
    register()
    choose = device.choose_device
    for module in (device, stream, wide):
        monkeypatch.setattr(module, "choose_device", lambda name: DEVICE if name == NAME else choose(name))
    with Pretending():
        yield NAME


@pytest.fixture(scope="module", params=["BF16", "F32"])
def folder(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(path, layers=12, hidden=640, dtype=request.param, shards=2)
    return path


def assert_the_same(there: gammatorch.Analysis, here: gammatorch.Analysis) -> None:
    found, expected = there.to_dict(), here.to_dict()
    assert (found["provenance"].pop("device"), expected["provenance"].pop("device")) == (str(DEVICE), "cpu")
    for volatile in ("seconds", "requests", "bytes_read"):
        found["provenance"].pop(volatile), expected["provenance"].pop(volatile)
    assert found == expected


@pytest.mark.parametrize("settings", METHODS)
def test_an_analysis_stays_on_its_device(on_device, folder, settings):
    there, here = (gammatorch.read_gains(folder, device=place) for place in (on_device, "cpu"))
    assert there.gamma.device == DEVICE
    assert_the_same(gammatorch.analyze(there, **settings), gammatorch.analyze(here, **settings))


def test_a_model_in_memory_is_read_on_the_device_that_it_is_on(on_device, folder):
    held = {key: tensor for file in sorted(folder.glob("*.safetensors")) for key, tensor in load_file(file).items()}
    there, here = (gammatorch.read_gains({key: held[key].to(device) for key in held}) for device in (DEVICE, "cpu"))
    assert there.gamma.device == DEVICE and torch.equal(there.gamma.cpu(), here.gamma)
    assert_the_same(gammatorch.analyze(there), gammatorch.analyze(here))


def test_a_wide_model_in_memory_is_taken_where_it_is(on_device, monkeypatch):
    def read(*_):
        raise AssertionError("its bytes went through the host")

    monkeypatch.setattr(HeldSource, "read", read)
    rows = torch.rand(3, 6000, dtype=torch.float64) + 0.5
    state = {f"h.{n}.weight": rows[n].reshape(60, 100).T.to(DEVICE) for n in range(3)}  # not contiguous
    arrived = []
    gains = gammatorch.scan_gains(state, pattern="h.{layer}.weight", advance=arrived.append)
    blocks = list(gains.blocks(2048))
    assert gains.device == DEVICE and {block.device for block in blocks} == {DEVICE}
    assert [block.shape[1] for block in blocks] == [2048, 2048, 1904] and sum(arrived) == rows.nbytes
    expected = torch.stack([row.reshape(60, 100).T.reshape(-1) for row in rows])
    assert torch.cat(blocks, dim=1).cpu().equal(expected)
    assert gammatorch.analyze(gains).cosine.cpu().equal(gammatorch.analyze(expected, method="gram").cosine)
    state["h.1.weight"][3, 3] = torch.nan
    with pytest.raises(errors.NonFiniteGain, match="h.1.weight: holds nan at channel 183"):
        list(gains.blocks(2048))


def test_checkpoints_on_several_devices_are_compared_on_that_of_the_first(on_device, folder):
    wide_gains = [gammatorch.scan_gains(folder, device=place) for place in (on_device, "cpu")]
    for one in (wide_gains, wide_gains[::-1]):
        compared = gammatorch.compare(one)
        assert compared.device == str(one[0].device) and compared.pairs[0].kinship.verdict == "identical"


@pytest.mark.parametrize("settings", METHODS)
def test_column_blocks_stay_on_their_device(on_device, folder, settings):
    there, here = (gammatorch.scan_gains(folder, device=place, memory="140MB") for place in (on_device, "cpu"))
    assert_the_same(gammatorch.analyze(there, **settings), gammatorch.analyze(here, **settings))


@pytest.mark.parametrize("settings", METHODS[:-1])
def test_a_batch_stays_on_its_device(on_device, settings):
    batch = torch.rand(3, 8, 600, dtype=torch.float64) + 0.5
    batch[0, 2] = 0  # a layer without a direction
    batch[1, :, 5] = 40  # a channel that stands out
    there, here = gammatorch.analyze(batch.to(DEVICE), **settings), gammatorch.analyze(batch, **settings)
    for one, other in zip(there, here, strict=True):
        assert_the_same(one, other)


def test_batches_stay_on_their_device(on_device, folder):
    there, here = (gammatorch.read_gains(folder, device=place) for place in (on_device, "cpu"))
    settings = {"method": "gram"}
    for one, other in zip(
        analyze_together([there] * 3, **settings), analyze_together([here] * 3, **settings), strict=True
    ):
        assert_the_same(one, other)


def test_few_items_of_a_sweep_are_not_copied_to_fill_up_a_batch(on_device, folder, monkeypatch):
    with gammatorch.open_checkpoint(folder) as checkpoint:
        gains = gammatorch.read_gains(checkpoint, device="cpu", raw=True)
    moved = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda rows, **how: (moved.append(len(rows)), stack(rows, **how))[1])
    item = Loaded(Item("a", str(folder), ""), gains, {})
    (there,), (here,) = (analyse([item], Settings(), place) for place in (DEVICE, torch.device("cpu")))
    assert moved[0] == 1, "nothing but the gains of the one item goes to the device"
    torch.testing.assert_close(there.gram, here.gram, rtol=1e-14, atol=0)
    assert there.analysis.answer == here.analysis.answer


def test_comparisons_and_sketches_stay_on_their_device(on_device, folder):
    there, here = (gammatorch.read_gains(folder, device=place) for place in (on_device, "cpu"))
    found, expected = (gammatorch.compare([one, one]) for one in (there, here))
    assert found.device == str(DEVICE)
    assert found.pairs[0].figures.total_drift.value == expected.pairs[0].figures.total_drift.value
    sketch = gammatorch.sketch(there, dims=512)
    assert sketch.values.device == DEVICE
    assert sketch.values.cpu().equal(gammatorch.sketch(here, dims=512).values)


def test_a_sketch_that_was_kept_compares_with_one_on_the_device(on_device, folder, tmp_path):
    there, here = (gammatorch.sketch(gammatorch.read_gains(folder, device=place)) for place in (on_device, "cpu"))
    gammatorch.save_sketch(tmp_path / "kept.safetensors", here)
    kept = gammatorch.load_sketch(tmp_path / "kept.safetensors")
    for one, other in ((there, kept), (kept, there)):
        assert one.drift(other)[0].device == one.values.device and not one.drift(other)[0].any()
        assert one.cosine(other)[0].cpu().equal(here.cosine(here)[0])


def test_wide_gains_are_multiplied_in_few_large_pieces(on_device, monkeypatch):
    wide_gains = (torch.rand(8, 40_000) + 0.5).bfloat16()
    factored, cast = [], []
    qr, empty = torch.linalg.qr, torch.empty_like
    monkeypatch.setattr(torch.linalg, "qr", lambda rows, **how: (factored.append(rows.shape), qr(rows, **how))[1])
    monkeypatch.setattr(torch, "empty_like", lambda like: (cast.append(like.shape), empty(like))[1])
    Triangle(8, DEVICE).add(wide_gains.to(DEVICE))
    found = gammatorch.sketch(wide_gains.to(DEVICE))
    assert len(factored) == 1, "one factor of all columns, not one after the other"
    assert not cast, "the sketch casts as it adds"
    assert found.values.cpu().equal(gammatorch.sketch(wide_gains).values)


def test_layers_of_several_types_are_put_in_order_on_the_device(on_device, tmp_path):
    from safetensors.torch import save_file

    kinds = (torch.float32, torch.bfloat16, torch.float64)
    rows = {f"layers.{layer}.norm.weight": torch.rand(64).to(kinds[layer % 3]) for layer in range(6)}
    save_file(rows, tmp_path / "model.safetensors")
    gamma = gammatorch.read_gains(tmp_path, pattern="layers.{layer}.norm.weight", device=on_device).gamma
    assert gamma.device == DEVICE
    assert gamma.cpu().equal(torch.stack([row.double() for row in rows.values()]))


def test_what_is_not_finite_is_named_from_the_device(on_device):
    gamma = torch.ones(2, 4)
    gamma[1, 3] = torch.nan
    with pytest.raises(errors.NonFiniteGain, match="row 1"):
        gammatorch.analyze(gamma.to(DEVICE))


CEILINGS = {
    "svd": (67, 9),
    "gram": (54, 6),
    "16 together": (164, 30),
    "wide, gram": (46, 3),
    "wide, svd": (73, 6),
    "wide, sketch": (66, 2),
}
"""Kernels and waits of the jobs, as they were counted: whoever needs more says why, whoever needs fewer lowers them."""


def test_what_a_device_is_asked_for_does_not_grow(on_device):
    work = jobs(DEVICE)
    assert set(work) == set(CEILINGS)
    for name, job in work.items():
        with counted() as counts:
            job()
        most = (counts.kernels.total(), counts.waits.total())
        assert most[0] <= CEILINGS[name][0] and most[1] <= CEILINGS[name][1], f"{name}: {most}, not {CEILINGS[name]}"


def test_what_a_device_is_asked_for_is_counted(on_device):
    there = torch.ones(3, 4, dtype=torch.float64).to(DEVICE)
    with counted() as counts:
        (there @ there.mT)[0, 0].item()  # a product and a wait; a transposed view is no work
        there.sum(-1).tolist()
        there[there > 0].cpu()  # how many there are must be known
        torch.ones(2).to(DEVICE)
        there.to(torch.float32)
    assert counts.kernels == {"mm": 1, "sum": 1, "gt": 1, "index": 1, "_to_copy": 1}
    assert counts.waits == {"item": 1, "tolist": 1, "index": 1, "fetch": 1}
    assert (counts.sent, counts.fetched) == (8, 24 + 96)


def test_a_line_that_forgets_the_device_is_noticed(on_device):
    there = torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3)[there.long()]
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    assert (there + torch.tensor(1.0)).device == DEVICE
