"""Every error gammatorch raises, as one tree.

::

    GammatorchError
    ├── InvalidArgument          an argument of the call makes no sense (also a ValueError)
    ├── CheckpointError          the checkpoint itself
    │   ├── CheckpointNotFound   no such folder, file or repository
    │   ├── UnreadableCheckpoint there, but it cannot be read: permission, network, changed meanwhile
    │   ├── MalformedCheckpoint  its bytes are not what its format demands
    │   ├── IncompleteCheckpoint a shard or a layer is missing
    │   └── UnsupportedFormat    weights in a format that is not read
    ├── SelectionError           what was asked of the checkpoint
    │   ├── SiteNotFound         no norm at that site, or no tensor for that pattern
    │   ├── StackNotFound        no stack of that name
    │   ├── WidthMismatch        rows of differing widths, or not config.json's
    │   └── NotComparable        checkpoints whose rows have no counterpart in each other
    ├── GainError                the numbers read
    │   └── NonFiniteGain        NaN or infinity
    ├── DeviceError              the device is not there, or cannot be used
    │   ├── OutOfDeviceMemory    its memory is full
    │   └── DeviceLost           it has failed, and does nothing more for this process
    ├── CannotTell               transformers cannot be asked about this model
    ├── ResultError              a file or folder holds no result that can be drawn
    └── OutputError              the result could not be written

A message reads ``file: tensor: what is wrong, what to do``; ``file`` and ``tensor`` are left out
where they say nothing.
"""

from __future__ import annotations


class GammatorchError(Exception):
    """Base of all errors of this package.

    Args:
        message: What is wrong and what to do about it, one line.
        file: The file, folder or repository it is about.
        tensor: The tensor it is about.

    Example:
        >>> print(GammatorchError("is cut short, download it again", file="model.safetensors"))
        model.safetensors: is cut short, download it again
    """

    def __init__(self, message: str, *, file: str | None = None, tensor: str | None = None) -> None:
        self.message = message
        self.file = file
        self.tensor = tensor
        super().__init__(": ".join(part for part in (file, tensor, message) if part))


class InvalidArgument(GammatorchError, ValueError):
    """An argument of the call makes no sense."""


class CheckpointError(GammatorchError):
    """The checkpoint cannot be used."""


class CheckpointNotFound(CheckpointError):
    """There is no folder, file or repository of that name."""


class UnreadableCheckpoint(CheckpointError):
    """It is there, but it cannot be read: permission, network, changed while being read."""


class MalformedCheckpoint(CheckpointError):
    """Its bytes are not what its format demands."""


class IncompleteCheckpoint(CheckpointError):
    """A shard or a layer is missing."""


class UnsupportedFormat(CheckpointError):
    """It holds weights in a format that is not read."""


class SelectionError(GammatorchError):
    """What was asked for cannot be selected from the checkpoint."""


class SiteNotFound(SelectionError):
    """The model has no norm at that site, or no tensor matches that pattern."""


class StackNotFound(SelectionError):
    """The model has no stack of that name."""


class WidthMismatch(SelectionError):
    """The rows differ in width, or are not as wide as config.json says."""


class NotComparable(SelectionError):
    """The checkpoints differ in site, layers or width, so that no row has its counterpart."""


class GainError(GammatorchError):
    """The numbers read are not usable as gains."""


class NonFiniteGain(GainError):
    """A gain holds NaN or infinity."""


class DeviceError(GammatorchError):
    """The device is not there, or cannot be used."""


class OutOfDeviceMemory(DeviceError):
    """The device has too little memory, or others have taken it."""


class DeviceLost(DeviceError):
    """The device has failed, and does nothing more for this process."""


class CannotTell(GammatorchError):
    """transformers does not hold the model, or it cannot be made tiny and run; the message says why."""


class ResultError(GammatorchError):
    """The file or folder holds no result of this package, or one that was changed or is of a newer version."""


class OutputError(GammatorchError):
    """The result could not be written."""
