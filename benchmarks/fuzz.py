"""Hostile bytes for every parser of checkpoints, guided by coverage: only gammatorch's own errors may come out.

    python benchmarks/fuzz.py [--seconds 60] [--target all]

Another exception, ten seconds without an answer and two gigabytes of memory are findings; the input that led there is
kept, and its place printed. Of safetensors it is also asked that whatever is accepted means the same to the full parse,
to the search in the raw header, and to safetensors' own parser. Needs atheris (``pip install '.[fuzz]'``).
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from gammatorch.errors import GammatorchError

SECONDS_PER_INPUT = 10
MEGABYTES = 2048
LONGEST_INPUT = 8192
MOST_READ = 20
LOG_SHOWN = 4000
SHARD = "model.safetensors"


class InMemory:
    """Files held in memory, as a source of bytes."""

    name, revision, rereads = "fuzz", None, False

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        from gammatorch.checkpoints.base import Traffic

        self.contents = contents
        self.files = {name: len(content) for name, content in contents.items()}
        self.traffic = Traffic()

    def speculate(self, file: str) -> int:
        """Nothing, as on a local disk."""
        return 0

    def read(self, reads: Sequence, advance: Callable[[int], None] | None = None) -> None:
        """Fill every buffer; a read beyond a file is a finding."""
        for file, start, into in reads:
            piece = self.contents[file][start : start + len(into)]
            assert len(piece) == len(into), f"{file}: {len(into)} bytes at {start} lie beyond its {self.files[file]}"
            into[:] = piece

    def close(self) -> None:
        """Nothing to let go of."""


def open_and_read(contents: Mapping[str, bytes]) -> None:
    """Open the checkpoint, and read tensors of it."""
    from gammatorch.checkpoints.base import Read
    from gammatorch.checkpoints.opening import open_source

    checkpoint = open_source(InMemory(contents))
    for _, entry in zip(range(MOST_READ), checkpoint.entries.values(), strict=False):
        if entry.nbytes <= LONGEST_INPUT:
            checkpoint.source.read([Read(entry.file, entry.start, memoryview(bytearray(entry.nbytes)))])


def try_safetensors(data: bytes) -> None:
    from safetensors import deserialize

    from gammatorch.checkpoints.dtypes import DTYPE_BITS
    from gammatorch.checkpoints.safetensors.headers import read_headers
    from gammatorch.checkpoints.safetensors.plain import parse_plain
    from gammatorch.checkpoints.safetensors.search import is_plain, search

    (header,) = read_headers(InMemory({SHARD: data}), [SHARD])
    swept = parse_plain([header])
    try:
        parsed = header.parse()
    except GammatorchError:
        assert swept is None, f"{dict(swept)} is of a broken header"
        raise
    assert swept is None or dict(swept) == parsed, f"{dict(swept)} is not {parsed}"
    if all(entry.dtype in DTYPE_BITS for entry in parsed.values()):
        theirs = {key: (tuple(tensor["shape"]), len(tensor["data"])) for key, tensor in deserialize(data)}
        assert theirs == {key: (entry.shape, entry.nbytes) for key, entry in parsed.items()}
    if not is_plain(header):
        return
    for text in {part for key in parsed for part in (key, f".{key.split('.')[-1]}", "norm") if part}:
        found = search(header, text.encode())
        expected = {key: entry for key, entry in parsed.items() if text in key}
        assert found is None or found == expected, f"{text!r}: {found} is not {expected}"


def try_zip(data: bytes) -> None:
    open_and_read({"pytorch_model.bin": data})


def try_pickle(data: bytes) -> None:
    from gammatorch.checkpoints.pytorch.pickled import read_pickle

    read_pickle(data, "fuzz")


def try_legacy(data: bytes) -> None:
    from gammatorch.checkpoints.pytorch.archive import LEGACY_MAGIC

    open_and_read({"pytorch_model.bin": data if data.startswith(LEGACY_MAGIC) else LEGACY_MAGIC + data})


def try_dcp(data: bytes) -> None:
    files = dcp_files()
    open_and_read({**files, ".metadata": data})


def try_gguf(data: bytes) -> None:
    open_and_read({"model.gguf": data})


def try_index(data: bytes) -> None:
    open_and_read({"model.safetensors.index.json": data, "a.safetensors": safetensors_file()})


def try_config(data: bytes) -> None:
    """Opened, and its norms looked for: that is where the config's values are used."""
    from gammatorch.architectures.select import select
    from gammatorch.architectures.stacks import find_stacks
    from gammatorch.checkpoints.opening import open_source

    checkpoint = open_source(InMemory({"config.json": data, SHARD: safetensors_file()}))
    find_stacks(checkpoint)
    select(checkpoint, site="input")


def safetensors_file() -> bytes:
    described = {
        "__metadata__": {"format": "pt"},
        "model.layers.0.input_layernorm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
        "model.layers.1.input_layernorm.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]},
    }
    header = json.dumps(described, separators=(",", ":")).encode()
    return struct.pack("<Q", len(header)) + header + bytes(range(16))


def torch_file(*, archive: bool = True) -> bytes:
    import torch

    shared = torch.arange(6.0)
    tensors = {"norm.weight": torch.ones(4, dtype=torch.bfloat16), "a": shared[:2], "b": shared.view(2, 3).T}
    tagged = torch.nn.Parameter(torch.ones(2))
    tagged.tag = [1]
    tensors |= {"c": tagged, "d": torch.nn.Buffer(shared), "e": torch.eye(2).to_sparse(), "f": shared.to("meta")}
    made = io.BytesIO()
    torch.save({"state_dict": tensors, "step": 3}, made, _use_new_zipfile_serialization=archive)
    return made.getvalue()


def torch_pickle() -> bytes:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(torch_file())) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


@cache
def dcp_files() -> dict[str, bytes]:
    import torch
    from torch.distributed import checkpoint

    tensors = {f"layers.{layer}.norm.weight": torch.arange(4.0) for layer in range(2)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save({"model": tensors, "step": 3}, checkpoint_id=folder, no_dist=True)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def gguf_file() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.block_count") + struct.pack("<2I", 4, 1),
        text("tokens") + struct.pack("<2IQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<2IQ2f", 9, 6, 2, 0.5, 1.5),
    ]
    tensor = text("blk.0.attn_norm.weight") + struct.pack("<IQIQ", 1, 4, 0, 0)
    header = struct.pack("<4sI2Q", b"GGUF", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return header + bytes(-len(header) % 32) + struct.pack("<4f", 1, 2, 3, 4)


def index_file() -> bytes:
    keys = [f"model.layers.{layer}.input_layernorm.weight" for layer in range(2)]
    return json.dumps({"metadata": {"total_size": 16}, "weight_map": dict.fromkeys(keys, "a.safetensors")}).encode()


def config_file() -> bytes:
    text = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 4, "rms_norm_eps": 1e-6}
    return json.dumps({"model_type": "llava", "architectures": ["X"], "text_config": text, **text}).encode()


TARGETS: Mapping[str, tuple[Callable[[bytes], None], Callable[[], bytes]]] = {
    "safetensors": (try_safetensors, safetensors_file),
    "zip": (try_zip, torch_file),
    "pickle": (try_pickle, torch_pickle),
    "dcp": (try_dcp, lambda: dcp_files()[".metadata"]),
    "gguf": (try_gguf, gguf_file),
    "index": (try_index, index_file),
    "config": (try_config, config_file),
    "legacy": (try_legacy, lambda: torch_file(archive=False)),
}
"""What is tried, and a valid input to begin with."""


def fuzz(target: str, corpus: str, seconds: int) -> None:
    """Try inputs until the time is over; ends the process, with an exit status other than 0 after a finding."""
    import atheris

    attempt, _ = TARGETS[target]
    packages = ["gammatorch.checkpoints", "gammatorch.architectures"]
    with atheris.instrument_imports(include=packages), suppress(GammatorchError):
        attempt(b"")  # imports what it needs

    def one(data: bytes) -> None:
        with suppress(GammatorchError):
            attempt(data)

    limits = [f"-max_total_time={seconds}", f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MEGABYTES}"]
    kept = f"-artifact_prefix={corpus}/finding-"
    atheris.Setup([sys.argv[0], *limits, f"-max_len={LONGEST_INPUT}", "-print_final_stats=1", kept, corpus], one)
    atheris.Fuzz()


def run(target: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether nothing was found."""
    _, make_seed = TARGETS[target]
    corpus = tempfile.mkdtemp(prefix=f"fuzz-{target}-")
    Path(corpus, "seed").write_bytes(make_seed())
    command = [sys.executable, __file__, "--target", target, "--seconds", str(seconds), "--corpus", corpus]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    log = done.stdout + done.stderr
    tried = re.search(r"number_of_executed_units: (\d+)", log)
    if done.returncode == 0 and tried is not None:
        shutil.rmtree(corpus)
        print(f"{target:<12} {int(tried[1]):>9} inputs, nothing found", flush=True)
        return True
    print(f"{target:<12} FOUND, the input is in {corpus}\n{log[-LOG_SHOWN:]}", flush=True)
    return False


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=60, help="time for each target")
    options.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    options.add_argument("--corpus", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed, nothing was fuzzed: pip install '.[fuzz]'")
        return 0
    if chosen.corpus is not None:
        fuzz(chosen.target, chosen.corpus, chosen.seconds)
    targets = list(TARGETS) if chosen.target == "all" else [chosen.target]
    clean = [run(target, chosen.seconds) for target in targets]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
