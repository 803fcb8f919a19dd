"""What a training script has set for its own model changes no digit, and is as it was afterwards."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from torch import Tensor

import gammatorch

BACKENDS = (torch.backends, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


def set_precision(backend, value: str):
    return lambda: setattr(backend, "fp32_precision", value)


SETTINGS = {
    "tf32 everywhere": set_precision(torch.backends, "tf32"),
    "tf32 in cublas": set_precision(torch.backends.cuda.matmul, "tf32"),
    "bfloat16 in onednn": set_precision(torch.backends.mkldnn.matmul, "bf16"),
    "all the old way": lambda: torch.set_float32_matmul_precision("medium"),
    "default bfloat16": lambda: torch.set_default_dtype(torch.bfloat16),
    "default float64": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
}
SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference": torch.inference_mode,
    "gradients": torch.enable_grad,
}


@contextlib.contextmanager
def having(name: str):
    """Something set, and unset afterwards."""
    try:
        if name in SETTINGS:
            SETTINGS[name]()
        with SURROUNDINGS.get(name, contextlib.nullcontext)():
            yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        for backend in BACKENDS:
            backend.fp32_precision = "none"


def seen() -> list[object]:
    """What is set, as far as PyTorch tells once its older and its newer interface were both used."""
    settings = [backend.fp32_precision for backend in BACKENDS]
    settings += [torch.get_default_dtype(), torch.get_default_device(), torch.is_autocast_enabled("cpu")]
    with contextlib.suppress(RuntimeError):
        settings.append(torch.get_float32_matmul_precision())
    return settings


def everything(folder, wide: Tensor) -> list[Tensor | str]:
    """Figures by every way through the library."""
    gains = gammatorch.read_gains(folder, device="cpu")
    figures: list[Tensor | str] = [gains.gamma]
    for dtype in ("float64", "float32"):
        for method in ("svd", "gram", "project"):
            for analysis in (
                gammatorch.analyze(gains, method=method, dtype=dtype),
                gammatorch.analyze(wide, method=method, dtype=dtype),
                gammatorch.analyze(gammatorch.scan_gains(folder, device="cpu"), method=method, dtype=dtype),
            ):
                figures += [analysis.cosine, analysis.explained_var, json.dumps(analysis.to_dict()["statistics"])]
    figures += [analysis.cosine for analysis in gammatorch.analyze(torch.stack((wide, wide.square())))]
    figures += [*gammatorch.sketch(wide, dims=64).cosine(), *gammatorch.sketch(wide).drift(gammatorch.sketch(wide + 1))]
    other = gammatorch.read_gains(folder, site="post_mlp", raw=True, device="cpu")
    pair = gammatorch.compare([gains, gains]).pairs[0]
    return [*figures, other.gamma, torch.from_numpy(pair.figures.cosine.value), pair.kinship.sentence]


@pytest.mark.parametrize("name", [*SETTINGS, *SURROUNDINGS])
def test_what_the_caller_has_set_changes_no_digit(name, trained):
    wide = torch.rand(16, 3000, generator=torch.Generator().manual_seed(0)) + 0.5
    before = everything(trained, wide)
    with having(name):
        during = everything(trained, wide)
    for one, other in zip(before, during, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True) if isinstance(one, Tensor) else None
        assert isinstance(one, Tensor) or one == other


@pytest.mark.parametrize("name", [*SETTINGS, *SURROUNDINGS])
def test_what_the_caller_has_set_is_left_as_it_was(name, trained):
    with having(name):
        before = seen()
        gammatorch.analyze(gammatorch.read_gains(trained, device="cpu"), dtype="float32")
        assert seen() == before


def test_a_setting_for_all_backends_can_still_be_taken_back(trained):
    with having("tf32 everywhere"):
        gammatorch.analyze(gammatorch.read_gains(trained, device="cpu"), dtype="float32")
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"


@pytest.mark.cuda
@pytest.mark.parametrize("name", [*SETTINGS, *SURROUNDINGS])
def test_cuda_and_cpu_agree_whatever_the_caller_has_set(name, device):
    gamma = torch.rand(64, 5120, dtype=torch.float64) + 0.5
    on_device = gamma.to(device)
    with having(name), torch.autocast("cuda", enabled=name == "autocast"):
        for dtype in ("float64", "float32"):
            on_gpu, on_cpu = (gammatorch.analyze(one, dtype=dtype) for one in (on_device, gamma))
            error = on_cpu.error_estimate
            torch.testing.assert_close(on_gpu.cosine.cpu(), on_cpu.cosine, rtol=0, atol=error)
            torch.testing.assert_close(on_gpu.explained_var.cpu(), on_cpu.explained_var, rtol=0, atol=error)


def test_tensors_that_hold_no_plain_numbers_are_refused_in_words():
    numbers = torch.rand(4, 8)
    for gains, message in [
        (numbers > 0.5, "not torch.bool"),
        (numbers.numpy() > 0.5, "bool"),
        (numbers.to_sparse(), "not torch.sparse_coo"),
    ]:
        with pytest.raises(gammatorch.errors.InvalidArgument, match=message):
            gammatorch.analyze(gains)
