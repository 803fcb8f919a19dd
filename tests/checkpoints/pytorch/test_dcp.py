"""Folders of torch.distributed.checkpoint, saved by it; the truth is what it was given, or loads itself."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import metadata as theirs
from torch.distributed.checkpoint.filesystem import _StorageInfo

import gammatorch
from gammatorch import errors
from gammatorch.checkpoints.base import Read
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.checkpoints.pieces import SEVERAL
from gammatorch.checkpoints.pytorch.dcp_metadata import TABLE_CAP
from gammatorch.checkpoints.pytorch.unpickler import Machine
from gammatorch.sweep.plan import local_identity
from gammatorch.sweep.specs import looks_like_checkpoint
from tests.sources import RecordingSource

LAYERS, HIDDEN = 3, 13
KEY = "model.layers.{layer}.input_layernorm.weight"
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.distributed is disabled")


def gains_of(
    layers: int = LAYERS, hidden: int = HIDDEN, dtype: torch.dtype = torch.bfloat16
) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {KEY.format(layer=layer): torch.randn(hidden, generator=rng).to(dtype) for layer in range(layers)}


def save(folder: Path, state: dict[str, object], **options: object) -> Path:
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, **options), no_dist=True)
    return folder


def values(gains: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(gains.values())).double()


@pytest.fixture
def folder(tmp_path):
    gains = gains_of()
    moments = {key: {"exp_avg": torch.full((HIDDEN,), 9.0), "step": torch.tensor(3.0)} for key in gains}
    return save(tmp_path, {"model": gains, "optimizer": {"state": moments}, "epoch": 2})


@pytest.mark.parametrize("threads", [1, 3])
def test_gains_are_those_that_were_saved(tmp_path, threads):
    gains = gains_of()
    save(tmp_path, gains, thread_count=threads)
    assert len(list(tmp_path.glob("*.distcp"))) == threads
    read = gammatorch.read_gains(tmp_path, device="cpu")
    assert read.gamma.equal(values(gains)) and read.keys == tuple(gains)
    assert read.checkpoint_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.distcp"))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory):
    """Saved by two processes; 13 channels, so that the second one holds less."""
    folder = tmp_path_factory.mktemp("sharded")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(Path(__file__).parent / "distributed_save.py")
    arguments = [str(value) for value in (2, port, folder, LAYERS, HIDDEN)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), *arguments], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    return folder


@pytest.mark.slow
def test_gains_that_two_processes_hold_halves_of_are_put_together(sharded):
    whole = {KEY.format(layer=layer): torch.zeros(HIDDEN, dtype=torch.bfloat16) for layer in range(LAYERS)}
    dcp.load({"model": whole}, checkpoint_id=sharded, no_dist=True)
    gains = gammatorch.read_gains(sharded, device="cpu")
    assert gains.gamma.equal(values(whole)) and gains.gamma.std() > 0.5
    assert gains.shards == 2 and gains.keys == tuple(whole)
    assert "tensors were read from 'model' in .metadata" in gains.notes
    twice = gammatorch.read_gains(sharded, site="pre_mlp", device="cpu")  # replicated: saved by one of the two
    assert twice.gamma.equal(2 * gains.gamma)


@pytest.mark.slow
def test_rows_of_matrices_are_put_together_and_columns_refused(sharded):
    whole = {f"model.layers.{layer}.self_attn.k_proj.weight": torch.zeros(4, HIDDEN) for layer in range(LAYERS)}
    dcp.load({"model": whole}, checkpoint_id=sharded, no_dist=True)
    pattern = "model.layers.{layer}.self_attn.k_proj.weight"
    gains = gammatorch.read_gains(sharded, pattern=pattern, device="cpu")
    assert gains.gamma.equal(torch.stack([tensor.flatten() for tensor in whole.values()]).double())
    with pytest.raises(errors.UnsupportedFormat, match="cut along several axes"):
        gammatorch.read_gains(sharded, pattern="model.layers.{layer}.self_attn.q_proj.weight", device="cpu")


@pytest.mark.slow
def test_every_range_of_an_assembled_tensor_is_that_range(sharded):
    with gammatorch.open_checkpoint(sharded) as checkpoint:
        entry = checkpoint.entries["model.layers.1.self_attn.k_proj.weight"]
        assert entry.file == SEVERAL
        whole = bytearray(entry.nbytes)
        checkpoint.source.read([Read(entry.file, entry.start, memoryview(whole))])
        for first in range(0, entry.nbytes, 7):
            part = bytearray(min(50, entry.nbytes - first))
            arrived: list[int] = []
            checkpoint.source.read([Read(entry.file, entry.start + first, memoryview(part))], arrived.append)
            assert part == whole[first : first + len(part)] and sum(arrived) == len(part)


def test_only_the_table_and_the_gains_archives_are_read(folder):
    source = RecordingSource(LocalSource(folder))
    gains = gammatorch.read_gains(open_source(source), device="cpu")
    assert [read[0] for read in source.reads] == [".metadata", *["__0_0.distcp"] * LAYERS]
    assert gains.rounds == 2


def test_tensors_longer_than_a_read_are_found_by_the_ends_of_their_archives(tmp_path):
    gains = gains_of(2, 100_000, torch.float32)
    save(tmp_path, gains)
    source = RecordingSource(LocalSource(tmp_path))
    assert gammatorch.read_gains(open_source(source), device="cpu").gamma.equal(values(gains))
    assert max(stop - start for _, start, stop in source.reads) == 400_000


def test_states_of_an_optimizer_are_never_gains(tmp_path):
    gains = gains_of()
    flat = {f"optimizer.state.{key}.exp_avg": torch.full((HIDDEN,), 9.0) for key in gains}
    other = {f"exp_avg.{key}": torch.full((HIDDEN,), 9.0) for key in gains}
    save(tmp_path / "both", {**flat, **gains, **other})
    read = gammatorch.read_gains(tmp_path / "both", device="cpu")
    assert read.gamma.equal(values(gains)) and f"{2 * LAYERS} tensors of an optimizer left out" in read.notes
    save(tmp_path / "alone", flat)
    with pytest.raises(errors.UnsupportedFormat, match="state of an optimizer, and no model"):
        gammatorch.open_checkpoint(tmp_path / "alone")
    save(tmp_path / "nested", {"optim": {"state": gains}})
    with pytest.raises(errors.UnsupportedFormat, match="holds no dict of tensors"):
        gammatorch.open_checkpoint(tmp_path / "nested")


def test_a_sweep_sees_the_folder_and_its_changes(folder):
    assert looks_like_checkpoint(str(folder)) and not looks_like_checkpoint(str(folder / ".metadata"))
    before = local_identity(str(folder))
    os.utime(folder / "__0_0.distcp", ns=(1, 1))
    assert before != local_identity(str(folder))


def test_safetensors_that_it_writes_are_read_as_any(tmp_path):
    gains = gains_of()
    writer = dcp.HuggingFaceStorageWriter(str(tmp_path), fqn_to_index_mapping=dict.fromkeys(gains, 1))
    dcp.save(gains, storage_writer=writer, no_dist=True)
    assert gammatorch.read_gains(tmp_path, device="cpu").gamma.equal(values(gains))


class Touches:
    """Pickles to a command that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "planner_data", "storage_meta"])
def test_nothing_in_the_table_is_executed(folder, protocol, place):
    target = folder / "created"
    table = pickle.loads((folder / ".metadata").read_bytes())
    if place == "alone":
        table = Touches(target)
    else:
        setattr(table, place, {"x": Touches(target)})
    raw = pickle.dumps(table, protocol)
    pickle.loads(raw)
    assert target.exists()  # the test could fail
    target.unlink()
    (folder / ".metadata").write_bytes(raw)
    with pytest.raises(errors.CheckpointError, match=r"\.metadata: .*nothing was executed"):
        gammatorch.open_checkpoint(folder)
    assert not target.exists()


def change(edit: Callable[[theirs.Metadata], object]) -> Callable[[Path], object]:
    def applied(folder: Path) -> None:
        table = pickle.loads((folder / ".metadata").read_bytes())
        edit(table)
        (folder / ".metadata").write_bytes(pickle.dumps(table))

    return applied


def info_of(table: theirs.Metadata) -> _StorageInfo:
    return next(info for index, info in table.storage_data.items() if index.fqn.endswith("1.input_layernorm.weight"))


def tensor_of(table: theirs.Metadata) -> theirs.TensorStorageMetadata:
    return table.state_dict_metadata["model." + KEY.format(layer=1)]


def cut(table: theirs.Metadata, *pieces: tuple[int, int]) -> None:
    """Tells of other chunks than were saved, each with the archive of the one that was."""
    info = info_of(table)
    tensor_of(table).chunks = [theirs.ChunkStorageMetadata(torch.Size([a]), torch.Size([b])) for a, b in pieces]
    for start, _ in pieces:
        table.storage_data[theirs.MetadataIndex("model." + KEY.format(layer=1), [start])] = info


def many(table: theirs.Metadata, count: int) -> None:
    """A list of so many chunks that stands for those of as many tensors: few bytes, and the square of them to do."""
    tensor = tensor_of(table)
    tensor.chunks = [theirs.ChunkStorageMetadata(torch.Size([0]), torch.Size([0]))] * count
    table.state_dict_metadata.update(dict.fromkeys(map(str, range(count)), tensor))


def test_the_table_of_hundreds_of_processes_is_read(folder, monkeypatch):
    """Of 512 with an optimizer it has a million chunks and more operations than any other pickle may have."""
    monkeypatch.setattr(Machine, "most_operations", 1000)
    table = pickle.loads((folder / ".metadata").read_bytes())
    length, count = len(pickle.dumps(table)), 2000
    name, info = "optimizer.exp_avg", info_of(table)
    table.state_dict_metadata[name] = theirs.TensorStorageMetadata(
        theirs.TensorProperties(torch.float32),
        torch.Size([count, 8]),
        [theirs.ChunkStorageMetadata(torch.Size([row, 0]), torch.Size([1, 8])) for row in range(count)],
    )
    for row in range(count):
        index = theirs.MetadataIndex(name, torch.Size([row, 0]), row)
        table.storage_data[index] = _StorageInfo("__0_0.distcp", info.offset + row, info.length)
    raw = pickle.dumps(table)
    (folder / ".metadata").write_bytes(raw)
    assert (len(raw) - length) / count * 1_000_000 < TABLE_CAP
    assert gammatorch.read_gains(folder, device="cpu").gamma.equal(values(gains_of()))


FUSED = "decoder.layers.{layer}self_attention.linear_qkv.layer_norm_weight"


def stack_rows(table: theirs.Metadata, layers: int) -> None:
    """Makes one tensor of those that were saved as rows, as Megatron-core's processes save a stack's."""
    key = FUSED.format(layer="")
    rows = [table.state_dict_metadata.pop(f"row{layer}") for layer in range(layers)]
    chunks = [theirs.ChunkStorageMetadata(torch.Size([layer, 0]), torch.Size([1, HIDDEN])) for layer in range(layers)]
    table.state_dict_metadata[key] = theirs.TensorStorageMetadata(
        rows[0].properties, torch.Size([layers, HIDDEN]), chunks
    )
    for index in list(table.storage_data):
        if index.fqn.startswith("row"):
            offset = torch.Size([int(index.fqn[3:]), 0])
            table.storage_data[theirs.MetadataIndex(key, offset)] = table.storage_data.pop(index)
    table.planner_data = {}


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_tensor_of_all_layers_is_read_layer_by_layer(tmp_path, in_parts):
    """Megatron-core's, saved whole or by a process for each layer; the matrices beside the gains are cut alike."""
    rows = values(gains_of()).bfloat16()
    saved: dict[str, object] = {f"row{layer}": row[None] for layer, row in enumerate(rows)}
    others = {
        "decoder.layers.mlp.linear_fc1.weight": torch.randn(LAYERS, 8, HIDDEN),
        "decoder.norm.weight": rows[0] * 2,
    }
    save(tmp_path, others | (saved if in_parts else {FUSED.format(layer=""): rows}))
    if in_parts:
        change(lambda table: stack_rows(table, LAYERS))(tmp_path)
    gains = gammatorch.read_gains(tmp_path, device="cpu")
    assert gains.gamma.equal(rows.double()) and gains.site == "input"
    assert gains.keys == tuple(FUSED.format(layer=f"{layer}.") for layer in range(LAYERS))
    assert any("decoder.layers holds the tensors of all layers in one" in note for note in gains.notes)
    assert gammatorch.read_gains(tmp_path, site="final", device="cpu").gamma.equal(2 * rows[:1].double())


@pytest.mark.parametrize(
    "beside",
    [
        {"decoder.layers.norm.weight": torch.ones(HIDDEN)},
        {"decoder.layers.head.weight": torch.ones(LAYERS + 1, HIDDEN)},
        {"decoder.layers.0.mlp.bias": torch.ones(HIDDEN)},
    ],
    ids=["a vector", "of another length", "with an index"],
)
def test_tensors_that_are_not_all_stacked_are_left_as_they_are(tmp_path, beside):
    key = FUSED.format(layer="")
    save(tmp_path, {key: torch.ones(LAYERS, HIDDEN)} | beside)
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.entries) == {key, *beside}


def test_a_million_million_layers_are_not_taken_apart(tmp_path):
    key = FUSED.format(layer="")
    save(tmp_path, {key: torch.ones(10**12, 0)})
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.entries) == {key}


DATA = "__0_0.distcp"
FAULTS: dict[str, tuple[Callable[[Path], object], type[errors.GammatorchError], str]] = {
    "no table": (lambda folder: (folder / ".metadata").unlink(), errors.IncompleteCheckpoint, "not saved to the end"),
    "no data": (lambda folder: (folder / DATA).rename(folder / "__9_9.distcp"), errors.IncompleteCheckpoint, f"{DATA} is missing"),
    "cut short": (lambda folder: os.truncate(folder / DATA, 4000), errors.MalformedCheckpoint, "is cut short"),
    "table cut short": (lambda folder: os.truncate(folder / ".metadata", 900), errors.MalformedCheckpoint, "nothing was executed"),
    "table empty": (lambda folder: os.truncate(folder / ".metadata", 0), errors.MalformedCheckpoint, "nothing was executed"),
    "table too long": (lambda folder: os.truncate(folder / ".metadata", 10**9), errors.MalformedCheckpoint, "more than is read"),
    "table goes on": (lambda folder: os.truncate(folder / ".metadata", 9000), errors.MalformedCheckpoint, "goes on after its pickle"),
    "version": (change(lambda table: setattr(table, "version", "2.0")), errors.UnsupportedFormat, "is of version '2.0'"),
    "outside": (change(lambda table: setattr(info_of(table), "relative_path", "../x.distcp")), errors.MalformedCheckpoint, "'../x.distcp', which is no plain"),
    "absolute": (change(lambda table: setattr(info_of(table), "relative_path", "/etc/passwd")), errors.MalformedCheckpoint, "'/etc/passwd', which is no plain"),
    "transformed": (change(lambda table: setattr(info_of(table), "transform_descriptors", ["zstd"])), errors.UnsupportedFormat, "save them without extensions"),
    "offset": (change(lambda table: setattr(info_of(table), "offset", info_of(table).offset + 1)), errors.MalformedCheckpoint, "."),
    "negative": (change(lambda table: setattr(info_of(table), "offset", -1)), errors.MalformedCheckpoint, "no such number"),
    "of another": (change(lambda table: setattr(info_of(table), "offset", 0)), errors.MalformedCheckpoint, "puts two tensors at byte|no directory|does not hold"),
    "gap": (change(lambda table: cut(table, (0, 5), (6, 7))), errors.MalformedCheckpoint, "leave a gap or overlap"),
    "overlap": (change(lambda table: cut(table, (0, 8), (6, 7))), errors.MalformedCheckpoint, "leave a gap or overlap"),
    "lacks the end": (change(lambda table: cut(table, (0, 8))), errors.MalformedCheckpoint, "leave a gap or overlap"),
    "no chunk": (change(lambda table: cut(table)), errors.MalformedCheckpoint, "leave a gap or overlap"),
    "twice": (change(lambda table: cut(table, (0, 6), (6, 7))), errors.MalformedCheckpoint, "puts two tensors at byte"),
    "longer": (change(lambda table: setattr(tensor_of(table), "size", torch.Size([99]))), errors.MalformedCheckpoint, "leave a gap"),
    "no place": (change(lambda table: table.storage_data.clear()), errors.MalformedCheckpoint, "lacks a part of its table"),
    "other type": (change(lambda table: setattr(tensor_of(table).properties, "dtype", torch.float16)), errors.MalformedCheckpoint, "does not hold F16"),
    "other table": (lambda folder: (folder / ".metadata").write_bytes(pickle.dumps({"a": 1})), errors.MalformedCheckpoint, "contradicts itself"),
    "one name": (change(lambda table: table.planner_data.update(dict.fromkeys(table.planner_data, ("model", "a")))), errors.MalformedCheckpoint, "one name to two things"),
    "within": (change(lambda table: table.planner_data.update({"model." + KEY.format(layer=1): ("model", KEY.format(layer=0), "a")})), errors.MalformedCheckpoint, "one name to two things"),
    "chunks": (change(lambda table: many(table, 2000)), errors.MalformedCheckpoint, "more chunks than it has room for"),
    "damaged": (lambda folder: damage(folder / DATA), errors.CheckpointError, "."),
}  # fmt: skip


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\1\2", b"PK\1\3"))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_in_one_line(folder, fault):
    break_it, error, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises(error, match=message) as raised:
        gammatorch.read_gains(folder, device="cpu")
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_of_the_folder_is_not_the_checkpoint(folder):
    for name in (".metadata", DATA):
        with pytest.raises(errors.UnsupportedFormat, match="pass its folder"):
            gammatorch.open_checkpoint(folder / name)


def test_other_weights_in_the_folder_go_before(folder):
    from safetensors.torch import save_file

    save_file({key: 2 * gain for key, gain in gains_of().items()}, folder / "model.safetensors")
    assert gammatorch.read_gains(folder, device="cpu").gamma.equal(2 * values(gains_of()))
