"""Every class of transformers, built without weights but for what may be a norm, and the headers that it is saved with.

On the meta device the largest model takes a moment and no memory.
"""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import chain
from types import ModuleType
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.initialization import no_init_weights
from transformers.modeling_layers import MtpModel
from transformers.modeling_utils import remove_tied_weights_from_state_dict
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.verify.needed import NEEDED
from gammatorch.verify.oracle import settings_to_try
from tests.sources import MemorySource

NO_NORMS = (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd)
_LARGEST = 4_000_000
"""Values of the largest tensor that may be a norm's."""

_ANOTHER = {
    **{"vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "head_dim": 16},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0},
    **{"bos_token_id": 1, "eos_token_id": 2, "hidden_act": "gelu"},
    **{"use_bidirectional_attention": False, "num_nextn_predict_layers": 0},  # wrappers ask for them
}
OTHER_MODELS = {name: {"model_type": name, **_ANOTHER} for name in ("gemma2", "llama")}
"""Text models to put in place of a wrapper's usual one: one that is zero-centred, and one that is not."""


class Built(NamedTuple):
    """A model without weights but for its norms, and its head for further tokens by the names of that one's parts."""

    model: PreTrainedModel
    head: Mapping[str, nn.Module]


def classes_of(model_type: str) -> list[type[PreTrainedModel]]:
    """The classes whose configuration is a type's; if none is, those that the Auto classes build it with."""
    config_class = CONFIG_MAPPING[model_type]
    found = [one for module in _modules_beside(config_class) for one in _models_in(module, config_class)]
    if found:
        return found
    tables = [types for name, types in vars(modeling_auto).items() if re.fullmatch(r"MODEL_.*MAPPING_NAMES", name)]
    names = [types[model_type] for types in tables if model_type in types]
    return [getattr(transformers, name) for name in sorted({name for name in names if isinstance(name, str)})]


def _modules_beside(config_class: type[PreTrainedConfig]) -> Iterator[ModuleType]:
    package = importlib.import_module(config_class.__module__.rpartition(".")[0])
    for info in pkgutil.iter_modules(package.__path__):
        if info.name.startswith("modeling_"):
            yield importlib.import_module(f"{package.__name__}.{info.name}")


def _models_in(module: ModuleType, config_class: type[PreTrainedConfig]) -> Iterator[type[PreTrainedModel]]:
    for value in vars(module).values():
        own = isinstance(value, type) and issubclass(value, PreTrainedModel) and value.__module__ == module.__name__
        if own and getattr(value, "config_class", None) is config_class:
            yield value


def whole_of(model_type: str) -> str | None:
    """A type of the same package with classes of its own, which holds a part of this type."""
    own = CONFIG_MAPPING[model_type]
    for other in CONFIG_MAPPING_NAMES:
        config_class = CONFIG_MAPPING[other]
        parts = (_usual(spec) for spec in (config_class.sub_configs_defaults or {}).values())
        if config_class.__module__ == own.__module__ and own in parts and classes_of(other):
            return other
    return None


def text_parts(model_type: str) -> list[str]:
    """Parts of a type in which any text model may be."""
    specs = CONFIG_MAPPING[model_type].sub_configs_defaults or {}
    return [
        name for name, spec in specs.items() if spec.config_class is AutoConfig and hasattr(_usual(spec), "vocab_size")
    ]


def types_of_parts(model_type: str, *, fixed: bool) -> dict[str, str]:
    """The types of a type's parts, of those that are of one whatever they say or of the others, if they do not say."""
    specs = CONFIG_MAPPING[model_type].sub_configs_defaults or {}
    chosen = {name: spec for name, spec in specs.items() if (spec.config_class is not AutoConfig) is fixed}
    return {name: usual.model_type for name, spec in chosen.items() if (usual := _usual(spec)) is not None}


def _usual(spec: Any) -> type[PreTrainedConfig] | None:
    """The configuration of a part that does not say its type."""
    if spec.config_class is not AutoConfig:
        return spec.config_class  # type: ignore[no-any-return]
    return CONFIG_MAPPING[spec.model_type] if spec.model_type in CONFIG_MAPPING_NAMES else None


def configurations(
    model_type: str, attributes: Mapping[str, Any], exchanged: Mapping[str, Any]
) -> Iterator[PreTrainedConfig]:
    """Configurations of a type to try, tiny ones first, then its own defaults.

    Args:
        model_type: The type.
        attributes: What is set in each of them, by the path to it.
        exchanged: Parts to take in place of its own.
    """
    for tiny in chain(settings_to_try(AutoConfig, model_type, {}, []), [NEEDED.get(model_type, {})]):
        try:
            config = AutoConfig.for_model(model_type, **copy.deepcopy({**tiny, **exchanged}))
        except Exception:  # whatever transformers raises, the next may work
            continue
        for path, value in attributes.items():
            *parts, name = path.split(".")
            setattr(reduce(getattr, parts, config), name, value)
        yield config


def build(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> Built:
    """A model by a configuration, or by a part of it where the class takes no more than that.

    Raises:
        Exception: Whatever transformers raises.
    """
    failures: list[Exception] = []
    for part in [config, *(part for part in vars(config).values() if isinstance(part, PreTrainedConfig))]:
        try:
            with torch.device("meta"), no_init_weights():
                model = model_class(copy.deepcopy(part)).eval()
        except Exception as error:
            failures.append(error)
            continue
        draw(model, torch.Generator().manual_seed(0))
        return Built(model, _head_of(model))
    raise failures[0]


def _head_of(model: PreTrainedModel) -> dict[str, nn.Module]:
    """What transformers makes of a model's blocks and norms to predict further tokens, by the names in checkpoints."""
    if not hasattr(model, "lm_head") or not any(
        "mtp" in name for name in model._keys_to_ignore_on_load_unexpected or ()
    ):
        return {}
    text = model.config.get_text_config(decoder=True)
    if not hasattr(text, "rms_norm_eps"):  # transformers makes none
        return {}
    text.num_mtp_layers = 1
    for kinds, own in (("mtp_layer_types", "layer_types"), ("mtp_mlp_layer_types", "mlp_layer_types")):
        if getattr(text, own, None) is not None and getattr(text, kinds, None) is None:
            setattr(text, kinds, getattr(text, own)[-1:])
    with torch.device("meta"), no_init_weights():
        layer = MtpModel(model, 1).layers[0]
    draw(layer, torch.Generator().manual_seed(1))
    parts = {"mtp.layers.0": layer.mtp_block, "mtp.norm": layer.post_norm}
    parts |= {"mtp.pre_fc_norm_embedding": layer.enorm, "mtp.pre_fc_norm_hidden": layer.hnorm}
    return {name: part for name, part in parts.items() if part is not None}


def draw(model: nn.Module, generator: torch.Generator, largest: int = _LARGEST) -> None:
    """Give weights of their own to all that may be norms: tensors of two dimensions at most, and not too large."""
    drawn: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, NO_NORMS):
            continue
        for name, weight in module._parameters.items():
            if weight is not None and weight.ndim <= 2 and weight.numel() <= largest:
                if weight not in drawn:  # shared blocks
                    values = 0.6 + 0.3 * torch.randn(weight.shape, generator=generator)
                    drawn[weight] = nn.Parameter(values, requires_grad=False)
                module._parameters[name] = drawn[weight]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point() and buffer.ndim <= 2 and buffer.numel() <= largest:
                module._buffers[name] = 0.5 + torch.rand(buffer.shape, generator=generator)


def saved_tensors(built: Built) -> Iterator[dict[str, Tensor]]:
    """The model's tensors by the keys that it is saved under: those of its first release, and its modules' own."""
    model = built.model
    tensors = model.state_dict()
    for key in model._keys_to_ignore_on_save or ():
        tensors.pop(key, None)
    tensors = remove_tied_weights_from_state_dict(tensors, model)
    head = {f"{name}.{key}": one for name, part in built.head.items() for key, one in part.state_dict().items()}
    released = revert_weight_conversion(model, dict(tensors))
    yield released | head
    if released.keys() != tensors.keys():
        yield tensors


def checkpoint_of(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint as its headers tell of it, without the bytes."""
    file = "model.safetensors"
    entries = {key: TensorEntry(key, "F32", tuple(one.shape), file, 0, 4 * one.numel()) for key, one in tensors.items()}
    return Checkpoint("model", MemorySource({file: b""}), (file,), entries, config)


def saved_config(model: PreTrainedModel, model_type: str) -> dict[str, Any]:
    """What is written into config.json, under the name that the type was asked for by."""
    config = {**model.config.to_diff_dict(), "architectures": [type(model).__name__]}
    if isinstance(model.config, CONFIG_MAPPING[model_type]):
        config["model_type"] = model_type
    return json.loads(json.dumps(config, default=str))  # type: ignore[no-any-return]


def without_types(config: dict[str, Any], of: type[PreTrainedConfig]) -> dict[str, Any]:
    """A config.json whose parts do not say their types, where these are the ones that they have if they do not."""
    bare = dict(config)
    for name, spec in (of.sub_configs_defaults or {}).items():
        usual, part = _usual(spec), bare.get(name)
        if usual is not None and isinstance(part, dict) and part.get("model_type") == usual.model_type:
            bare[name] = {key: value for key, value in without_types(part, usual).items() if key != "model_type"}
    return bare


def with_another_type(config: dict[str, Any], of: type[PreTrainedConfig]) -> dict[str, Any]:
    """A config.json whose parts say that they are Llama's, where what they are does not hang on what they say."""
    strange = dict(config)
    for name, spec in (of.sub_configs_defaults or {}).items():
        if spec.config_class is not AutoConfig and isinstance(strange.get(name), dict):
            strange[name] = {**with_another_type(strange[name], spec.config_class), "model_type": "llama"}
    return strange


def owners_of(built: Built) -> dict[int, tuple[nn.Module, str]]:
    """The module of each tensor and its name there, by where its values lie, since saved keys do not name modules."""
    owners: dict[int, tuple[nn.Module, str]] = {}
    for module in (one for whole in (built.model, *built.head.values()) for one in whole.modules()):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and tensor.numel() and tensor.device.type != "meta":
                owners.setdefault(tensor.data_ptr(), (module, name))
    return owners
