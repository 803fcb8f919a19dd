"""Faults that a server can be given, and what must come of them."""

from __future__ import annotations

import socket
import struct
import time
import traceback
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import gammatorch
from benchmarks.hub_server import FakeHub, Handler, Request
from gammatorch import errors

REPO = "org/small"
SHARD = "model-00002-of-00003.safetensors"


def check(hub: FakeHub) -> None:
    """The gains are those on the disk, bit by bit."""
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert gains.gamma.equal(gammatorch.read_gains(hub.folder, device="cpu").gamma)


def refuse(hub: FakeHub, error: type[Exception] = errors.UnreadableCheckpoint) -> str:
    """What it says, in one line without secrets."""
    with pytest.raises(error) as caught:
        gammatorch.read_gains(REPO, device="cpu")
    message = str(caught.value)
    assert message.startswith(REPO) and "\n" not in message
    shown = "".join(traceback.format_exception(caught.value))  # what -v shows
    assert "secret" not in shown and "Signature" not in shown and "://" not in message
    return message


def first(count: int, of: str, answer):
    """A fault of the first so many requests to one of: listing, link, cdn."""
    failed: list[Request] = []

    def fault(request: Request):
        if kind(request) != of or len(failed) >= count:
            return None
        failed.append(request)
        return answer(request) if callable(answer) else answer

    fault.failed = failed
    return fault


def always(of: str, answer):
    return first(10**9, of, answer)


def kind(request: Request) -> str:
    if request.origin == "cdn":
        return "cdn"
    return "listing" if request.path.startswith("/api/models/") else "link"


def by_hand(act):
    """An answer that a function of the connection gives."""
    return lambda request: act


def reset(at: int):
    """Send so many bytes of the range that was asked for, then break the connection."""

    def act(handler: Handler) -> None:
        start, stop = handler.seen.bounds
        path = handler.hub.folder / handler.seen.file
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{path.stat().st_size}")
        handler.send_header("Content-Length", str(stop - start))
        handler.end_headers()
        with open(path, "rb") as file:
            file.seek(start)
            handler.wfile.write(file.read(at))
        handler.wfile.flush()
        time.sleep(0.02)  # what has been sent arrives before the reset
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.shutdown(socket.SHUT_RDWR) if at % 2 else handler.connection.close()
        handler.close_connection = True

    return act


def write_in(form: str, folder: Path) -> torch.Tensor:
    """Another checkpoint in place of the safetensors; its gains."""
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    gains = torch.rand(12, 128) + 0.5
    if form == "bin":
        (folder / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 12, "hidden_size": 128}')
        rows = {f"model.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(gains)}
        wide = {f"model.layers.{layer}.mlp.up_proj.weight": torch.zeros(128, 512) for layer in range(12)}
        torch.save(rows | wide, folder / "pytorch_model.bin")
    else:
        (folder / "config.json").unlink()
        writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
        writer.add_block_count(12)
        writer.add_embedding_length(128)
        for layer, row in enumerate(gains.numpy()):
            writer.add_tensor(f"blk.{layer}.attn_norm.weight", row)
            writer.add_tensor(f"blk.{layer}.ffn_up.weight", np.zeros((512, 128), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return gains.double()
