"""Which device to work on, and in which precision."""

from __future__ import annotations

import torch

from gammatorch.errors import DeviceError, InvalidArgument

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name.

    Args:
        name: ``"auto"`` (CUDA if there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.

    Raises:
        DeviceError: The machine has no such device.
        InvalidArgument: There is no such kind of device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    return device


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
    """Memory that is free on the device, None where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu":
        return _available_memory()
    return None


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
