"""The checkpoints made on the spot are checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import safe_open

from gammatorch import errors
from gammatorch.bench.layouts import LAYOUTS
from gammatorch.bench.synthetic import write_checkpoint


@pytest.mark.parametrize("family", LAYOUTS)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_safetensors_reads_the_drawn_weights(tmp_path, family, dtype):
    made = write_checkpoint(tmp_path, family, layers=5, hidden=16, dtype=dtype, shards=3, seed=4)
    found = {}
    for shard in made.shards:
        with safe_open(tmp_path / shard, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys() if key in made.stored}  # noqa: SIM118
    assert found.keys() == made.stored.keys()
    for key, tensor in found.items():
        np.testing.assert_array_equal(tensor.double(), made.stored[key])
        assert np.isfinite(made.stored[key]).all() and (made.stored[key] > 0).all()


def test_qwen3_32b_has_its_tensors_and_its_size_and_takes_no_room(tmp_path):
    made = write_checkpoint(tmp_path)
    keys = []
    for shard in made.shards:
        with safe_open(tmp_path / shard, "np") as file:
            keys += file.keys()
    assert len(keys) == len(set(keys)) == 707 and len(made.shards) == 17
    assert 65.4e9 < made.checkpoint_bytes < 65.6e9
    assert sum((tmp_path / shard).stat().st_blocks * 512 for shard in made.shards) < 20e6


def test_a_seed_gives_the_same_bytes_again(tmp_path):
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        write_checkpoint(tmp_path / name, layers=2, hidden=8, shards=1, seed=seed)
        contents.append((tmp_path / name / "model.safetensors").read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("settings", [{"family": "none"}, {"dtype": "I8"}, {"shards": 0}, {"shards": 10_000}])
def test_what_cannot_be_made_is_refused(tmp_path, settings):
    with pytest.raises(errors.InvalidArgument):
        write_checkpoint(tmp_path, **{"layers": 2, "hidden": 8, **settings})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(errors.OutputError, match="none: cannot be written"):
        write_checkpoint(tmp_path / "none", layers=2, hidden=8, shards=1)
