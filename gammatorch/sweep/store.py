"""STORE: one immutable file for each item of a sweep; that it is there means that it is done.

::

    DIR/items/<key>.safetensors      gains, Gram matrix …; what they are, results and provenance as JSON in the header
    DIR/failures/<key>.json          why an item could not be done; the next run tries it again
    DIR/claims/<key>                 who is at it, so that others begin elsewhere; never forbids anything

A file is written under another name in the same folder, flushed to the disk and renamed, and then the folder is
flushed: any number of processes and machines may share one folder, on NFS too, without locks. Two writers of one item
write the same numbers, and the later one wins.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gammatorch.errors import MalformedCheckpoint, OutputError
from gammatorch.reports.document import STORE_FOLDERS, telling
from gammatorch.results.base import plain
from gammatorch.results.files import Misfit, decode, encode, to_plain
from gammatorch.results.run import Provenance, Summary
from gammatorch.results.statistics import MATRICES
from gammatorch.results.sweep import Failure, FailureRecord, Item, ItemHeader, Settings, WeightFile
from gammatorch.sweep.item import SCHEMA_VERSION
from gammatorch.sweep.place import is_temporary

if TYPE_CHECKING:
    from torch import Tensor

_Part = TypeVar("_Part", ItemHeader, Summary, Provenance)

SUFFIX = ".safetensors"
_FORMAT = "gammatorch sweep item"
_ABANDONED_SECONDS = 3600.0
"""Age from which a temporary file is nobody's any more; writing one takes a moment."""


@dataclass(frozen=True, eq=False)
class StoredItem:
    """All that is kept of one checkpoint.

    Attributes:
        item: The checkpoint, with name, commit, step, tags and key.
        settings: What was read of it, and how it was analysed.
        layers: Layer index of each row.
        site: Place of the norm that was read.
        offset: What the stored weights lack: γ = offset + weight.
        analysis: What ``gammatorch run --out`` writes, less provenance and the layer × layer matrices, which
            :meth:`document` puts back.
        provenance: Versions, bytes, requests, seconds: what may differ between runs that give the same numbers.
        files: Size in bytes and, where the Hub tells it, content hash of each weight file.
        gains_sha256: Hash of type, shape and bytes of the gains as stored, or of their sketch.
        weights: The gains as stored, shape (layer, hidden), without offset; None where wide, or not loaded.
        gram: G = γ γᵀ, shape (layer, layer), float64; None if not loaded.
        pearson: Correlations, NaN where undefined, shape (layer, layer); None if not loaded.
        rank_correlation: Those of normal scores likewise; None also where wide gains have no ranks.
        sketch: Sketch of wide gains, offset included, shape (layer, bucket), float32; None where they are stored whole.
        sketch_of: What two sketches must share to be compared.
    """

    item: Item
    settings: Settings
    layers: tuple[int, ...]
    site: str
    offset: float
    analysis: Summary = field(repr=False)
    provenance: Provenance = field(repr=False)
    files: Mapping[str, WeightFile] = field(repr=False)
    gains_sha256: str
    weights: Tensor | None = field(default=None, repr=False)
    gram: Tensor | None = field(default=None, repr=False)
    pearson: Tensor | None = field(default=None, repr=False)
    rank_correlation: Tensor | None = field(default=None, repr=False)
    sketch: Tensor | None = field(default=None, repr=False)
    sketch_of: Mapping[str, int] | None = None

    def gamma(self) -> Tensor:
        """The gains γ = offset + weight, shape (layer, hidden), float64.

        Raises:
            OutputError: They are not kept: they are wide, and a sketch stands for them.
        """
        import torch

        if self.weights is None:
            raise OutputError("keeps no gains, only a sketch of them", file=self.item.name)
        return self.weights.to(torch.float64) + self.offset

    def header(self) -> ItemHeader:
        """What the item says of itself in its file."""
        return ItemHeader(
            item=self.item,
            settings=self.settings,
            layers=list(self.layers),
            site=self.site,
            offset=self.offset,
            files=dict(self.files),
            gains_sha256=self.gains_sha256,
            sketch_of=dict(self.sketch_of) if self.sketch_of is not None else None,
        )

    def document(self) -> dict[str, Any]:
        """The result as ``gammatorch run --out`` writes it."""
        import torch

        document = {**to_plain(self.analysis), "provenance": to_plain(self.provenance)}
        if self.gram is not None and self.pearson is not None:
            lengths = self.gram.diagonal().sqrt()
            cosine = (self.gram / (lengths[:, None] * lengths)).clamp_(-1, 1).fill_diagonal_(1)
            document["cosine"] = plain(cosine.to(torch.float64))
            document["statistics"] |= {name: plain(getattr(self, name)) for name in MATRICES}
        return document


class Store:
    """The folder of a sweep.

    Args:
        folder: Where it is; made if it is not there.

    Raises:
        OutputError: It cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._items, self._failures, self._claims = (self.folder / name for name in STORE_FOLDERS)
        with telling(self.folder):
            for place in (self._items, self._failures, self._claims):
                place.mkdir(parents=True, exist_ok=True)
            if not os.access(self._items, os.W_OK):
                raise OutputError("cannot be written: no permission", file=str(self.folder))

    def keys(self) -> set[str]:
        """Keys of all items that are done: one listing."""
        return done_keys(self.folder)

    def has(self, key: str) -> bool:
        """Whether an item is done by now."""
        return (self._items / f"{key}{SUFFIX}").exists()

    def claim(self, key: str) -> bool:
        """Say that this process is at an item; False if another one said so before, and perhaps still is."""
        try:
            descriptor = os.open(self._claims / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except OSError:
            return False
        try:
            os.write(descriptor, f"{socket.gethostname()} {os.getpid()}".encode())
        finally:
            os.close(descriptor)
        return True

    def release(self, key: str) -> None:
        """Nobody is at it any more."""
        (self._claims / key).unlink(missing_ok=True)

    def put(self, stored: StoredItem) -> None:
        """Keep an item: afterwards it is on the disk, whole.

        Raises:
            OutputError: It could not be written.
        """
        from safetensors.torch import save

        tensors = {name: value for name in _TENSORS if (value := getattr(stored, name)) is not None}
        metadata = {"format": _FORMAT, "schema_version": str(SCHEMA_VERSION)}
        parts = {"item": stored.header(), "analysis": stored.analysis, "provenance": stored.provenance}
        metadata |= {name: encode(part) for name, part in parts.items()}
        key = stored.item.key
        self._write(self._items / f"{key}{SUFFIX}", save(tensors, metadata))
        (self._failures / f"{key}.json").unlink(missing_ok=True)
        self.release(key)

    def fail(self, failure: Failure) -> None:
        """Keep the reason why an item could not be done.

        Raises:
            OutputError: It could not be written.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = FailureRecord(failure.key, failure.name, failure.kind, failure.message, now)
        self._write(self._failures / f"{failure.key}.json", (encode(record) + "\n").encode())
        self.release(failure.key)

    def failures(self) -> Iterator[Failure]:
        """What could not be done, by the records that are kept."""
        return kept_failures(self.folder)

    def forgive(self, names: set[str]) -> None:
        """Drop the records of failure under these names: they are tried again, or mean another commit by now."""
        for failure in self.failures():
            if failure.name in names:
                (self._failures / f"{failure.key}.json").unlink(missing_ok=True)

    def sweep_up(self) -> None:
        """Remove what killed processes left behind: old temporary files, and claims on what is done."""
        for key in done_keys(self.folder).intersection(os.listdir(self._claims)):
            self.release(key)
        for path in (*self._items.glob(".*.tmp"), *self._failures.glob(".*.tmp")):
            with contextlib.suppress(OSError):
                abandoned = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
                if abandoned and is_temporary(path.name):
                    path.unlink()

    def _write(self, path: Path, content: bytes) -> None:
        with telling(path):
            temporary = f"{path.parent}/.{path.stem[:32]}.{secrets.token_hex(8)}.tmp"
            try:
                with open(temporary, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            _flush_folder(path.parent)


_TENSORS = ("weights", "gram", *MATRICES, "sketch")


def done_keys(folder: str | os.PathLike[str]) -> set[str]:
    """Keys of the items that a folder keeps; none where it is not there.

    Args:
        folder: The sweep's folder.
    """
    try:
        names = os.listdir(Path(folder) / "items")
    except FileNotFoundError:
        return set()
    return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.startswith(".")}


def is_sweep(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a sweep's, which may have no item yet."""
    return (Path(folder) / "items").is_dir()


def kept_failures(folder: str | os.PathLike[str]) -> Iterator[Failure]:
    """What could not be done, by the records that a folder keeps; none where it is not there.

    What is no such record is passed over: it says nothing of any item, and the next run tries again in any case.

    Args:
        folder: The sweep's folder.
    """
    for path in sorted((Path(folder) / "failures").glob("*.json")):
        with contextlib.suppress(OSError, Misfit):  # another process may be rid of it
            yield decode(path.read_bytes(), Failure)


def read_items(folder: str | os.PathLike[str], *, tensors: bool = True) -> Iterator[StoredItem]:
    """Every item of a sweep, one in memory at a time, in the order of their keys.

    Args:
        folder: The sweep's folder.
        tensors: Load gains, Gram matrix, correlations and sketch too.

    Raises:
        OutputError: It is no sweep's folder.
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    if not is_sweep(folder):
        raise OutputError("is not the folder of a sweep: pass what was given to --out", file=str(folder))
    for path in sorted((Path(folder) / "items").glob(f"*{SUFFIX}")):
        yield read_item(path, tensors=tensors)


def read_item(path: str | os.PathLike[str], *, tensors: bool = True) -> StoredItem:
    """One item.

    Args:
        path: Its file.
        tensors: Load gains, Gram matrix, correlations and sketch too.

    Raises:
        MalformedCheckpoint: The file is not what a sweep wrote.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt" if tensors else "numpy") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
        header = _part(metadata, "item", ItemHeader)
        analysis = _part(metadata, "analysis", Summary)
        provenance = _part(metadata, "provenance", Provenance)
    except (SafetensorError, OSError, Misfit) as error:
        raise _altered(path, str(error)) from None
    if wrong := _unlike(header, analysis, Path(path).name.removesuffix(SUFFIX)) or _misshapen(found, analysis):
        raise _altered(path, wrong)
    return StoredItem(
        item=header.item,
        settings=header.settings,
        layers=tuple(header.layers),
        site=header.site,
        offset=header.offset,
        analysis=analysis,
        provenance=provenance,
        files=header.files,
        gains_sha256=header.gains_sha256,
        sketch_of=header.sketch_of,
        **{name: found[name] for name in _TENSORS if name in found},
    )


def _part(metadata: Mapping[str, str], name: str, kind: type[_Part]) -> _Part:
    if name not in metadata:
        raise Misfit(f"{name} is missing")
    try:
        return decode(metadata[name], kind)
    except Misfit as misfit:
        raise Misfit(f"{name}: {misfit}") from None


def _unlike(header: ItemHeader, analysis: Summary, key: str) -> str | None:
    """What does not fit in an item whose parts are sound; None where all does."""
    if header.item.key != key:
        return "item.item.key is not the name of the file"
    if analysis.layers != header.layers:
        return "analysis.layers are not item.layers"
    return "analysis.norms: a gain has no length" if None in analysis.norms else None


def _misshapen(found: Mapping[str, Tensor], analysis: Summary) -> str | None:
    """Which tensor is missing, or has another type or shape; None where none is, or none was read."""
    layers = analysis.num_layers
    columns = {"gram": layers, "pearson": layers, "sketch": None}
    if "weights" in found:
        columns = {"gram": layers, "pearson": layers, "weights": analysis.hidden}
    if "rank_correlation" in found:
        columns["rank_correlation"] = layers
    for name, width in columns.items() if found else ():
        if name not in found:
            return f"{name} is missing"
        kind, shape = found[name].dtype, tuple(found[name].shape)
        fits = len(shape) == 2 and shape[0] == layers and shape[1] == (width or shape[1])
        if not fits or not found[name].is_floating_point():
            return f"{name} is {kind} of shape {shape}, not real numbers of shape ({layers}, {width or 'any'})"
    return None


def _altered(path: str | os.PathLike[str], what: str) -> MalformedCheckpoint:
    return MalformedCheckpoint(
        f"is not what a sweep wrote ({what}): delete it, and run the sweep again", file=str(path)
    )


def _flush_folder(folder: Path) -> None:
    """Have the disk keep the renaming; what cannot flush folders (some network file systems) flushes on its own."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
