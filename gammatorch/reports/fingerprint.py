"""A sketch as a small file, so that any two checkpoints ever read can be compared without reading them again."""

from __future__ import annotations

import os
from pathlib import Path

from gammatorch.analysis.projection import Sketch
from gammatorch.errors import CheckpointNotFound, MalformedCheckpoint
from gammatorch.reports.document import check_writable, replacing

_KIND = "gammatorch.sketch"
_NUMBERS = ("hidden", "seed", "buckets", "dims", "version")


def save_sketch(path: str | os.PathLike[str], sketch: Sketch) -> None:
    """Write a sketch as a safetensors file with its metadata in the header, whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        sketch: What to write.

    Raises:
        OutputError: It could not be written.
    """
    from safetensors.torch import save_file

    check_writable(Path(path))
    metadata = {"kind": _KIND, **{name: str(sketch.metadata[name]) for name in _NUMBERS}}
    with replacing(Path(path)) as temporary:
        save_file({"values": sketch.values.contiguous().cpu()}, temporary, metadata)


def load_sketch(path: str | os.PathLike[str]) -> Sketch:
    """Read a sketch that :func:`save_sketch` wrote, on the CPU.

    Whether it can be compared with another is checked when it is: :meth:`Sketch.drift`, :meth:`Sketch.cosine`.

    Args:
        path: The file.

    Raises:
        CheckpointNotFound: There is no such file.
        MalformedCheckpoint: It is no sketch.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != _KIND:
                raise MalformedCheckpoint("is no sketch: pass a file that save_sketch wrote", file=str(path))
            values = file.get_tensor("values")
            loaded = Sketch(values, int(metadata["hidden"]), int(metadata["seed"]), int(metadata["version"]))
    except FileNotFoundError:
        raise CheckpointNotFound("no such file", file=str(path)) from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise MalformedCheckpoint(f"is no sketch ({error})", file=str(path)) from error
    told = {name: str(number) for name, number in loaded.metadata.items()}
    if any(metadata.get(name) != told[name] for name in _NUMBERS):
        raise MalformedCheckpoint("holds another sketch than its header says", file=str(path))
    return loaded
