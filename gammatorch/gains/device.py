"""Which device to work on, in which precision, and PyTorch's settings while it works."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from gammatorch.errors import DeviceError, DeviceLost, InvalidArgument, OutOfDeviceMemory

DTYPES = {"float64": torch.float64, "float32": torch.float32}

_FATAL = {214, 220, 700, 702, 710, *range(714, 720), 721, 999}
"""Errors of CUDA after which all that a process asks of it ends in the same error: failed kernels and memory."""

_log = logging.getLogger(__name__)
_usable = set[torch.device]()

_EXACT = "ieee"
_INHERITED = "none"


def choose_device(name: str | torch.device = "auto", *, try_it: bool = True) -> torch.device:
    """The device of that name, once it has added two numbers.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``. Auto is CUDA if there is one that can be
            used, else the CPU; one that cannot, being busy or of a kind that this PyTorch was not built for, is told
            of in a warning.
        try_it: If not, it need only be there: for who passes it on and takes none of its memory.

    Raises:
        DeviceError: The machine has no such device, or it cannot be used.
        InvalidArgument: There is no such kind of device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return _cuda_or_cpu(try_it)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidArgument(f"there is no device {str(name)!r}: pass auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InvalidArgument(f"device {str(name)!r} is not supported: pass auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {str(name)!r} is not there ({torch.cuda.device_count()} CUDA devices): pass --device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is not there: pass --device cpu")
    if try_it and device.type == "cuda" and (trouble := _trouble(device)):
        raise DeviceError(f"device {str(name)!r} cannot be used ({trouble}): pass --device cpu")
    return device


def has_cuda() -> bool:
    """Whether there is a CUDA device, be it of use or not."""
    return torch.cuda.is_available()


def _cuda_or_cpu(try_it: bool) -> torch.device:
    device = torch.device("cuda")
    if not has_cuda():
        return torch.device("cpu")
    if try_it and (trouble := _trouble(device)):
        _log.warning("the CUDA device cannot be used (%s): going on on the CPU", trouble)
        return torch.device("cpu")
    return device


def _trouble(device: torch.device) -> str:
    """Why a CUDA device that is there cannot be used, nothing if it can."""
    if device not in _usable:
        try:
            torch.ones(1, device=device).add(1).item()
        except (RuntimeError, AssertionError) as error:  # one that PyTorch was built without, the latter
            return _reason(error)
        _usable.add(device)
    return ""


def _reason(error: BaseException) -> str:
    """The first sentence of what PyTorch says, without what it advises to developers."""
    return str(error).strip().partition("\n")[0].partition(". ")[0].removeprefix("CUDA error: ").rstrip(".")


@contextmanager
def device_errors() -> Iterator[None]:
    """What PyTorch raises where a device's memory is full, or it fails, as errors that say what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # what the calls that have failed held can be used again
        raise OutOfDeviceMemory(
            f"the device's memory is full ({_reason(error)}): pass --memory 500MB to work in column blocks, or "
            "--device cpu"
        ) from error
    except torch.AcceleratorError as error:
        if getattr(error, "error_code", None) in _FATAL:
            raise DeviceLost(
                f"the device has failed ({_reason(error)}), and does nothing more for this process: begin again, or "
                "pass --device cpu"
            ) from error
        raise DeviceError(f"the device cannot do this ({_reason(error)}): pass --device cpu") from error


def current(device: torch.device) -> AbstractContextManager[object]:
    """While it is entered, what PyTorch does for the current CUDA device, as pinning memory, it does for this one.

    Else a process or thread that works on ``cuda:1`` takes some memory of ``cuda:0`` as well.
    """
    return torch.cuda.device(device) if device.type == "cuda" and device.index is not None else nullcontext()


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of that name, ``"float64"`` or ``"float32"``.

    Raises:
        InvalidArgument: There is no such precision, or the device has none.
    """
    dtype = DTYPES.get(name) if isinstance(name, str) else name
    if dtype is None or dtype not in DTYPES.values():
        raise InvalidArgument(f"there is no precision {str(name)!r}: pass {' or '.join(DTYPES)}")
    if dtype is torch.float64 and device.type == "mps":
        raise InvalidArgument("device 'mps' has no float64: pass --dtype float32, or --device cpu")
    return dtype


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be had on the device, None where it cannot be told.

    What PyTorch keeps for later counts as free.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "cpu":
        return _available_memory()
    return None


def release(device: torch.device) -> None:
    """Give back what PyTorch keeps of the device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _available_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            table = dict(line.split(":", 1) for line in lines)
        return int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return None


def summing_device(device: torch.device) -> torch.device:
    """Where float64 totals are kept: on the device, or on the CPU beside one that has no float64.

    Example:
        >>> summing_device(torch.device("mps"))
        device(type='cpu')
    """
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def default_numerics() -> Iterator[None]:
    """No autocast, no TF32 or bfloat16 in float32 products; tensors on the CPU and in float32 where nothing is said;
    any algorithm, also where those with an order of their own are forbidden.

    In a training script all of these may be set, and each would change digits or end in an error. The caller's
    settings hold again afterwards; but for autocast and the default device they are those of the whole process. What a
    device does not have, or can no longer do, is a :class:`~gammatorch.errors.DeviceError`.

    Example:
        >>> torch.set_default_dtype(torch.bfloat16)
        >>> with torch.autocast("cpu"), default_numerics():
        ...     torch.ones(2, 2).mm(torch.ones(2, 2)).dtype
        torch.float32
        >>> torch.get_default_dtype()
        torch.bfloat16
        >>> torch.set_default_dtype(torch.float32)
    """
    with device_errors(), ExitStack() as settings:
        settings.enter_context(_exact_products())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                settings.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            settings.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) is not torch.float32:
            settings.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if mode := torch.get_deterministic_debug_mode():
            settings.callback(torch.set_deterministic_debug_mode, mode)
            torch.set_deterministic_debug_mode(0)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread, and on as many as before afterwards.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Set by backend: once a caller has done so, the older ``torch.get_float32_matmul_precision`` raises."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = _EXACT
    try:
        yield
    finally:
        for backend, setting in zip(backends, before, strict=True):
            backend.fp32_precision = _INHERITED  # what was read may be that of all backends, which may change again
            if backend.fp32_precision != setting:
                backend.fp32_precision = setting
