"""Which of a checkpoint's files hold its weights, by the names that libraries and trainers give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gammatorch.checkpoints.foreign import foreign_files
from gammatorch.checkpoints.shards import ShardSet, shard_sets, siblings, some
from gammatorch.errors import CheckpointError, CheckpointNotFound, IncompleteCheckpoint, UnsupportedFormat

CONFIG = "config.json"
CONFIG_YAML = "config.yaml"
ADAPTER_CONFIG = "adapter_config.json"
"""What trainers write their settings to where there is no config.json (OLMo)."""

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

TORCH_SINGLE = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES, ".gguf")
"""How the names of weight files end, in the formats that are read."""

DCP_METADATA, DCP_SUFFIX = ".metadata", ".distcp"
"""The table of a torch.distributed checkpoint, and how the names of its other files end: a folder of them is read."""

FOLDER_SUFFIXES = (*SUFFIXES, DCP_SUFFIX, DCP_METADATA)
"""How the names of files end that hold a folder's weights."""

DCP_SHARDS, LAYER_FILES, RANK_FOLDERS = "torch.distributed shards", "a file per layer", "a folder per rank"
"""Ways to cut one model into files that have a reader of their own, beside those that a suffix tells."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.safetensors)", re.ASCII)
_TORCH_SHARD = re.compile(r"(?P<stem>pytorch_model)-(?P<number>\d{5,})-of-(?P<count>\d{5,})(?P<suffix>\.bin)", re.ASCII)
_GGUF_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,})-of-(?P<count>\d{5,})(?P<suffix>\.gguf)", re.ASCII)
DCP_SHARD = re.compile(r"shard-(?P<number>\d+)-model-\d+-of-\d+\.safetensors", re.ASCII)
"""What torch.distributed.checkpoint's HuggingFaceStorageWriter calls the file of one rank."""

_LAYER_FILE = re.compile(r"layer_(?P<layer>\d+)(-model_(?P<rank>\d+))?-model_states\.pt", re.ASCII)
"""One layer of a model that DeepSpeed's pipeline engine has saved (GPT-NeoX, Megatron-DeepSpeed)."""

RANK_FOLDER = re.compile(r"(mp|tp)_rank_(?P<tensor>\d+)(_(?:pp_rank_)?(?P<stage>\d+))?(_(?P<expert>\d+))?", re.ASCII)
_RANK_FILE = re.compile(rf"{RANK_FOLDER.pattern}/(?P<file>model_optim_rng\.pt|model_rng\.pt|model_weights\.ckpt)")
"""The model of one rank as Megatron-LM and NeMo save it: ``mp_rank_00_001/model_optim_rng.pt``."""

_TP_COMMON = "-TP-common.safetensors"
"""What all tensor-parallel ranks of Grok-2 have in common, its norms among it."""

_RANKS = (
    ("Grok-2", re.compile(r".+-TP-(?P<rank>\d+)\.safetensors", re.ASCII)),
    ("DeepSeek's own", re.compile(r"model(?P<rank>\d+)-mp\d+\.safetensors", re.ASCII)),
    ("DeepSpeed", re.compile(r"mp_rank_(?P<rank>\d+)_model_states\.pt", re.ASCII)),
    ("Llama's own", re.compile(r"consolidated\.(?P<rank>\d+)\.(pth|pt)", re.ASCII)),
    ("vLLM", re.compile(r"model-rank-(?P<rank>\d+)-part-\d+\.safetensors", re.ASCII)),
    ("TensorRT-LLM", re.compile(r"rank(?P<rank>\d+)\.safetensors", re.ASCII)),
)
"""Files of the ranks of a tensor-parallel model: each holds some rows or columns of every matrix, and all norms."""

_ADAPTER = re.compile(r"(.*[_.-])?(adapters?|lora)([_.-].*)?\.(safetensors|bin|pt)|adapter_model\..*", re.IGNORECASE)
"""What is trained beside a model and saved without it."""

_BESIDE_WEIGHTS = re.compile(
    r"training_args|(?!model_optim_rng)(.*[_.-])?optim|scheduler|scaler|rng_state|random_state|rank|distrib_optim|zero_pp_rank|common\.pt"
)
"""How the names of files begin that trainers write beside the weights."""

_BESIDE_GGUF = re.compile(r"(.*[_.-])?(mmproj|imatrix|lora|mtp)[_.-]", re.IGNORECASE)
"""Towers for images, statistics for quantisation, adapters and heads, in files of their own beside a GGUF model."""

_ZERO_3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt", re.ASCII)
"""Files of DeepSpeed's ZeRO-3, whose tensors are cut over all processes."""

_PARTS = ((DCP_SHARD, "a part of every tensor, and no more"), (_LAYER_FILE, "one layer of the model"))


@dataclass(frozen=True)
class Weights:
    """The weight files of a checkpoint.

    Attributes:
        files: Names of the shards in order; empty where only the index can tell.
        index: The index that has to be read to know them, if any.
        notes: What a reader of the results should know about the choice.
        layout: How the files make one model, where that is not one table of tensors each: :data:`LAYER_FILES`, say.
        ranks: The files of each tensor-parallel rank by its number, those that are read first; empty for one rank.
    """

    files: tuple[str, ...]
    index: str | None = None
    notes: tuple[str, ...] = ()
    layout: str | None = None
    ranks: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


def find_weights(names: Iterable[str], where: str) -> Weights:
    """Choose the weight files the way the field's own loaders do.

    First what transformers loads: safetensors before PyTorch's, one file before the shards. Then one safetensors file
    of another name, one GGUF model (repositories hold many quantisations of the same), a torch.distributed checkpoint,
    what the parallel trainers write, and last a PyTorch file of any name, if it is the only one (nanoGPT's
    ``ckpt.pt``). Adapters, optimizers and random states are none of them.

    The index of a sharded set (12 MB for a large mixture of experts) repeats what the headers say, so it is
    left alone whenever the shards' own names (``model-00001-of-00017.safetensors``) tell the whole set.

    Args:
        names: Plain names of the checkpoint's files, with those in folders of ranks.
        where: Name of the checkpoint, for messages.

    Raises:
        CheckpointNotFound: There are no weights at all.
        UnsupportedFormat: There are, but in no format that is read.
        IncompleteCheckpoint: A shard of the set is missing.

    Example:
        >>> find_weights(["config.json", "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"], "m")
        Weights(files=('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'), index=None, notes=(),
            layout=None)
    """
    present = sorted(set(names))
    for find in _FINDERS:
        if (found := find(present, where)) is not None:
            return found
    raise _no_weights(present, where)


def is_weights(name: str) -> bool:
    """Whether a file holds weights by its name, and not what trainers write beside them.

    Example:
        >>> is_weights("ckpt.pt"), is_weights("optimizer.pt"), is_weights("config.json")
        (True, False, False)
    """
    return name.endswith(FOLDER_SUFFIXES) and _BESIDE_WEIGHTS.match(name) is None


def _find_usual(present: Sequence[str], where: str) -> Weights | None:
    """What transformers loads from safetensors."""
    tensors = [name for name in present if name.endswith(".safetensors")]
    if any(map(_is_dcp_shard, tensors)):
        return None
    sets, others = shard_sets(tensors, where, _SHARD)
    if SINGLE in present:
        beside = f"{SINGLE} was read, as transformers does; the shards beside it were not"
        return Weights((SINGLE,), notes=(beside,) if sets else ())
    whole = len(sets) == 1 and (not sets[0].missing or INDEX not in present)
    if whole and not [name for name in others if not _ADAPTER.fullmatch(name)]:
        return Weights(sets[0].whole(where), notes=_left(others))
    if INDEX in present:
        return Weights((), index=INDEX, notes=_lacks(sets))
    if whole:
        return Weights(sets[0].whole(where), notes=_left(others, "because no index names them"))
    return None


def _find_usual_torch(present: Sequence[str], where: str) -> Weights | None:
    """What transformers loads from PyTorch's files."""
    beside = _left([name for name in present if name.endswith(".safetensors")])
    if TORCH_SINGLE in present:
        return Weights((TORCH_SINGLE,), notes=beside)
    sets, _ = shard_sets(present, where, _TORCH_SHARD)
    if len(sets) == 1 and (not sets[0].missing or TORCH_INDEX not in present):
        return Weights(sets[0].whole(where), notes=beside)
    return Weights((), index=TORCH_INDEX, notes=(*_lacks(sets), *beside)) if TORCH_INDEX in present else None


def _find_other_safetensors(present: Sequence[str], where: str) -> Weights | None:
    tensors = [name for name in present if name.endswith(".safetensors")]
    shards = tuple(sorted(filter(_is_dcp_shard, tensors), key=_dcp_order))
    if shards:
        left = [name for name in tensors if name not in shards]
        return Weights(shards, notes=_left(left), layout=DCP_SHARDS)
    models = [name for name in tensors if not _ADAPTER.fullmatch(name) and not _BESIDE_WEIGHTS.match(name)]
    if len(models) > 1:
        raise CheckpointNotFound(
            f"holds several safetensors files and no {INDEX} that says which belong together "
            f"({some(models)}): pass one of them",
            file=where,
        )
    return _only(models[0], tensors) if models else None


def _find_ranks(present: Sequence[str], where: str) -> Weights | None:
    """The first rank's files of a tensor-parallel model; norms are the same in all of them."""
    for who, pattern in _RANKS:
        ranks = {name: int(match["rank"]) for name in present if (match := pattern.fullmatch(name))}
        if not ranks:
            continue
        missing = sorted(set(range(max(ranks.values()) + 1)) - set(ranks.values()))
        if 0 in missing:
            raise IncompleteCheckpoint(
                f"holds the files of some ranks of a tensor-parallel model ({who} names: {some(list(ranks))}) and not "
                "of rank 0: pass the folder that has them all",
                file=where,
            )
        by_rank = _by_rank(ranks)
        common = tuple(name for name in present if name.endswith(_TP_COMMON))
        notes = _of_ranks(0, len(by_rank))
        return Weights((*by_rank["0"], *common), notes=notes, ranks=_several(by_rank) if not common else {})
    return None


def _by_rank(ranks: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """The files of each rank, the first rank first."""
    return {str(rank): tuple(name for name in ranks if ranks[name] == rank) for rank in sorted(set(ranks.values()))}


def _several(by_rank: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    return by_rank if len(by_rank) > 1 else {}


def _of_ranks(first: int, count: int) -> tuple[str, ...]:
    """A note on the tensor-parallel rank that norms were read from, where there are several."""
    note = f"norms were read from the files of rank {first} alone, of {count} tensor-parallel ranks that each hold all"
    return (note,) if count > 1 else ()


def _find_tensor_parallel(present: Sequence[str], where: str) -> Weights | None:
    """Grok-2's files, whose index, if any, names each tensor that is cut over ranks once."""
    return _find_ranks(present, where) if any(name.endswith(_TP_COMMON) for name in present) else None


def _find_gguf(present: Sequence[str], where: str) -> Weights | None:
    names = [name for name in present if name.endswith(".gguf")]
    beside = [name for name in names if _BESIDE_GGUF.match(name)]
    models = [name for name in names if name not in beside] or names
    sets, others = shard_sets(models, where, _GGUF_SHARD)
    if len(sets) + len(others) > 1:
        raise CheckpointNotFound(
            f"holds several GGUF models ({some(models)}): pass the file of one of them", file=where
        )
    left = _left([name for name in names if name not in models])
    if sets:
        return Weights(sets[0].whole(where), notes=left)
    return Weights((others[0],), notes=left) if others else None


def _find_dcp(present: Sequence[str], where: str) -> Weights | None:
    files = tuple(name for name in present if name.endswith(DCP_SUFFIX))
    if files and DCP_METADATA not in present:
        raise IncompleteCheckpoint(
            f"holds a torch.distributed checkpoint ({some(list(files))}) without its {DCP_METADATA}, which is "
            "written last: it was not saved to the end, or not copied whole",
            file=where,
        )
    return Weights(files) if files else None


def _find_layer_files(present: Sequence[str], where: str) -> Weights | None:
    """One file for each layer and rank, of which the first rank's are read."""
    files = {name: match for name in present if (match := _LAYER_FILE.fullmatch(name))}
    if not files:
        return None
    in_order = sorted(files, key=lambda name: int(files[name]["layer"]))
    ranks = {name: int(files[name]["rank"] or 0) for name in in_order}
    notes = _of_ranks(min(ranks.values()), len(set(ranks.values())))
    by_rank = _by_rank(ranks)
    return Weights(next(iter(by_rank.values())), notes=notes, layout=LAYER_FILES, ranks=_several(by_rank))


def _find_rank_folders(present: Sequence[str], where: str) -> Weights | None:
    """The pipeline stages of the first tensor-parallel rank, each in a folder of its own."""
    files = {name: match for name in present if (match := _RANK_FILE.fullmatch(name))}
    if not files:
        return None
    tensor = {name: int(match["tensor"]) for name, match in files.items()}
    first = min((tensor[name], int(match["expert"] or 0)) for name, match in files.items())
    ranks = {name: tensor[name] for name, match in files.items() if int(match["expert"] or 0) == first[1]}
    by_rank = _by_rank(ranks)
    return Weights(next(iter(by_rank.values())), layout=RANK_FOLDERS, ranks=_several(by_rank))


def _find_only_torch(present: Sequence[str], where: str) -> Weights | None:
    names = [
        name
        for name in present
        if name.endswith(TORCH_SUFFIXES) and not _BESIDE_WEIGHTS.match(name) and not _ADAPTER.fullmatch(name)
    ]
    return _only(names[0], names) if len(names) == 1 else None


def _find_adapter(present: Sequence[str], where: str) -> Weights | None:
    names = [name for name in present if _ADAPTER.fullmatch(name) and name.endswith(SUFFIXES)]
    if len(names) != 1:
        return None
    note = f"{names[0]} is an adapter: it holds of its base model what was trained with it, and nothing else"
    return Weights((names[0],), notes=(note,))


def is_adapter(files: Sequence[str]) -> bool:
    """Whether weight files are those of an adapter, by their names.

    Args:
        files: Names of all weight files.

    Example:
        >>> is_adapter(["adapter_model.safetensors"]), is_adapter(["model.safetensors"])
        (True, False)
    """
    return all(map(_ADAPTER.fullmatch, files))


_FINDERS: tuple[Callable[[Sequence[str], str], Weights | None], ...] = (
    _find_tensor_parallel,
    _find_usual,
    _find_usual_torch,
    _find_layer_files,
    _find_ranks,
    _find_other_safetensors,
    _find_gguf,
    _find_dcp,
    _find_rank_folders,
    _find_only_torch,
    _find_adapter,
)
"""In order; the first that finds weights decides."""


def as_weights(target: str, names: Collection[str]) -> tuple[Weights, str | None]:
    """What one weight file or index stands for, and what is missing beside it.

    A shard stands for all of its set where that is there.

    Returns:
        The weight files, and what makes them a part of the model and no more, None if nothing does.
    """
    if target.endswith(".index.json"):
        return Weights((), index=target), None
    for pattern, part in _PARTS:
        if pattern.fullmatch(target):
            return Weights((target,)), f"{target} holds {part}: pass its folder"
    shards = siblings(target)
    absent = [name for name in shards if name not in names]
    if absent:
        return Weights((target,)), (
            f"{target} is one of {len(shards)} shards by its name, and {some(absent)} not beside it: pass the whole "
            "model, not one shard"
        )
    note = (f"{target} is one of {len(shards)} shards: all of them were read",) if shards else ()
    return Weights(shards or (target,), notes=note), None


def left_out(files: Collection[str], notes: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """A note on weight files beside those that are read, where none tells of them yet.

    Example:
        >>> left_out(["model.safetensors"], (), ["model.safetensors", "pytorch_model.bin", "optimizer.bin"])
        ('not read: pytorch_model.bin',)
    """
    if any(note.startswith("not read") for note in notes) or not all(file.endswith(SUFFIXES) for file in files):
        return ()
    ranks = [pattern for _, pattern in _RANKS]
    others = [name for name in names if name.endswith(SUFFIXES) and is_weights(name) and name not in files]
    return _left(
        sorted(
            name
            for name in others
            if not any(name in note for note in notes) and not any(rank.fullmatch(name) for rank in ranks)
        )
    )


def _only(name: str, names: Sequence[str]) -> Weights:
    left = [other for other in names if other != name]
    return Weights((name,), notes=(f"{name} was read, the only weights there", *_left(left)))


def _left(names: Sequence[str], why: str = "") -> tuple[str, ...]:
    """A note on weight files that were not read."""
    return (f"not read{', ' + why if why else ''}: {some(names)}",) if names else ()


def _lacks(sets: Sequence[ShardSet]) -> tuple[str, ...]:
    """A note on shards that are not there though the names of the others count them; the index names what there is."""
    missing = [name for shards in sets for name in shards.missing]
    return (f"{some(missing)} not there, and the index names no such file",) if missing else ()


def _is_dcp_shard(name: str) -> bool:
    return name.startswith("shard-") and DCP_SHARD.fullmatch(name) is not None


def _dcp_order(name: str) -> tuple[int, str]:
    match = DCP_SHARD.fullmatch(name)
    return (int(match["number"]) if match else 0), name


def _no_weights(present: Sequence[str], where: str) -> CheckpointError:
    if held := [name for name in present if _ZERO_3.fullmatch(name)]:
        return UnsupportedFormat(
            f"holds a DeepSpeed ZeRO-3 checkpoint, whose tensors are cut over all processes ({some(held)}): run the "
            "zero_to_fp32.py that DeepSpeed puts beside its folder, and pass what that writes",
            file=where,
        )
    if held := [name for name in present if name.endswith(TORCH_SUFFIXES)]:
        remedy = f"pass the one that holds the weights, or name it {TORCH_SINGLE}"
        return UnsupportedFormat(f"holds PyTorch files of other names ({some(held)}): {remedy}", file=where)
    if found := foreign_files(present):
        held, what, remedy = found
        return UnsupportedFormat(
            f"holds no weights but {what} ({some(held)}), which gammatorch does not read: {remedy}", file=where
        )
    return CheckpointNotFound("holds no weights: pass the folder of a model", file=where)
