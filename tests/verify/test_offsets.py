"""The offset of every norm of every type that transformers knows, held against what the norm does when it is called.

``test_matrix.py`` runs whole models that can be made tiny. Here each norm is called by itself, so all classes of all
types can be held, every stack of them, and norms at no place: as they are saved; where config.json does not say of what
types its parts are; with another text model in place of the usual one; with heads that predict further tokens. What
cannot be built or told is named below. The summary at the end of the run counts the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import import_utils

from gammatorch.architectures.base import PLACES
from gammatorch.architectures.families import OFFSETS, PARTS, USUAL_PARTS, is_known
from gammatorch.architectures.stacks import find_stacks
from tests.verify.alone import SAME, acting_offset
from tests.verify.built import (
    OTHER_MODELS,
    build,
    checkpoint_of,
    classes_of,
    configurations,
    owners_of,
    saved_config,
    saved_tensors,
    text_parts,
    types_of_parts,
    whole_of,
    with_another_type,
    without_types,
)

_BLOCK = {
    **{"reduce_channel": [1, 1, 0], "return_channel": [1, 1, 0]},
    **{
        f"{name}_{ratio}": [3, 1, 1]
        for name in ("vertical_long_to_small_conv", "horizontal_small_to_long_conv", "symmetric_conv_long")
        for ratio in ("longratio", "midratio", "shortratio")
    },
}
_DETECTOR = {"intraclass_block_config": _BLOCK, "scale_factor_list": [1, 1, 1, 1], "kernel_list": [3, 2, 2]}
ATTRIBUTES = {
    "autoformer": {"prediction_length": 8, "context_length": 8},
    "beit": {"out_indices": [0, 1, 2, 3]},
    "bridgetower": {"contrastive_hidden_size": 64, "logit_scale_init_value": 1.0},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
    "diffusion_gemma_text": {"moe_intermediate_size": 32, "num_experts": 4, "top_k_experts": 2},
    "gemma4_assistant": {"text_config.num_kv_shared_layers": 0},
    "gemma4_unified_assistant": {"text_config.num_kv_shared_layers": 0},
    "granite4_vision": {"deepstack_layer_map": [[0, 1]], "downsample_rate": "1/2"},
    "hiera": {"decoder_hidden_size": 64, "decoder_depth": 2, "decoder_num_heads": 4},
    "perception_lm": {"vision_config.model_args": {"embed_dim": 64}},
    "pp_ocrv5_server_det": _DETECTOR,
    "pp_ocrv6_medium_det": _DETECTOR,
    "qwen3_omni_moe": {
        "talker_config.text_config.shared_expert_intermediate_size": 64,
        "talker_config.spatial_merge_size": 2,
    },
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 64},
    "ReformerModelWithLMHead": {"is_decoder": True},
    "sapiens2": {
        **{"head_config.upsample_out_channels": [8, 8], "head_config.upsample_kernel_sizes": [4, 4]},
        **{"head_config.conv_out_channels": [8], "head_config.conv_kernel_sizes": [3]},
        **{"head_config.scale_conv_out_channels": [8], "head_config.scale_conv_kernel_sizes": [3]},
        **{"head_config.scale_final_input_size": 8, "head_config.scale_final_hidden_sizes": [8, 8]},
    },
    "seamless_m4t_v2": {
        **{"variance_predictor_embed_dim": 64, "variance_predictor_hidden_dim": 64},
        **{"variance_predictor_kernel_size": 3, "variance_pred_dropout": 0.0},
    },
    "T5GemmaEncoderModel": {"is_encoder_decoder": False},
    "t5gemma2_decoder": {"dropout_rate": 0.0},
    "t5gemma2_encoder": {"text_config.dropout_rate": 0.0},
    "t5gemma2_text": {"dropout_rate": 0.0},
    "vilt": {"num_images": 2, "modality_type_vocab_size": 3},
    "vitmatte": {"fusion_hidden_sizes": [64, 32, 16, 8], "convstream_hidden_sizes": [16, 32, 64]},
}
"""What configurations lack, by type or class and the path to it: what their defaults leave out or have wrong."""

NOT_BUILT = {
    "deimv2": {"Deimv2DINOv3ConvEncoder": "takes another backbone than the type's usual one"},
    "esm": {"EsmForProteinFolding": "its folding trunk has no defaults"},
    "higgs_audio_v2_tokenizer": {"": "its module imports torchaudio"},
    "layoutxlm": {"": "transformers has no class for it"},
    "nougat": {"": "transformers has no class for it; its encoder's type is none that it knows"},
    "patchtst": {"PatchTSTEncoder": "takes more than a configuration"},
    "swin": {"SwinEncoder": "takes more than a configuration"},
}
"""Classes that are not built, by type, and why; all of a type's where none has a name."""

_ASKS_FOR_MORE = "asks of its text model what only the usual one's configuration has"
NOT_EXCHANGED = {
    ("colpali", "vlm_config"): _ASKS_FOR_MORE,
    ("encoder-decoder", "decoder"): "its decoder must have cross-attention",
    ("gemma4_assistant", "text_config"): _ASKS_FOR_MORE,
    ("gemma4_unified_assistant", "text_config"): _ASKS_FOR_MORE,
    ("grounding-dino", "text_config"): _ASKS_FOR_MORE,
    ("mm-grounding-dino", "text_config"): _ASKS_FOR_MORE,
    ("musicgen", "text_encoder"): "takes an encoder of text, of which none is zero-centred",
    ("musicgen_melody", "text_encoder"): "takes an encoder of text, of which none is zero-centred",
    ("nougat", "decoder"): "transformers has no class for it",
    ("pi0", "vlm_config"): _ASKS_FOR_MORE,
    ("sam3", "text_config"): _ASKS_FOR_MORE,
    ("voxtral_realtime", "audio_config"): "takes sound",
    ("voxtral_realtime", "text_config"): "makes its own text model of any configuration",
    ("zoedepth", "backbone_config"): "takes pictures",
}
"""Parts that hold none of the other text models, by type, and why."""

NOT_TOLD = {
    ("cosmos3_omni", "text_config"): "is saved with a vision tower in `blocks` beside the text model's `layers`",
}
"""Parts whose norms cannot be told from others once another text model is there, and why."""

TABLES = (OFFSETS, PARTS, USUAL_PARTS)
NOT_PLAIN = {name for table in TABLES for name in table}


@pytest.fixture(autouse=True)
def other_libraries(monkeypatch):
    """What transformers asks of other libraries, and does not need for norms of its own."""
    from transformers.models.layoutlmv2.modeling_layoutlmv2 import LayoutLMv2VisualBackbone
    from transformers.models.timm_backbone.modeling_timm_backbone import TimmBackbone
    from transformers.models.timm_wrapper import modeling_timm_wrapper as wrapper

    for library in ("natten", "scipy", "timm", "vision", "detectron2"):
        monkeypatch.setitem(import_utils.BACKENDS_MAPPING, library, (lambda: True, ""))
    for of_timm in (TimmBackbone, wrapper.TimmWrapperForImageClassification, wrapper.TimmWrapperModel):
        monkeypatch.setattr(of_timm, "__init__", lambda self, config, **_: PreTrainedModel.__init__(self, config))
    monkeypatch.setattr(TimmBackbone, "channels", [64] * 4)
    monkeypatch.setattr(LayoutLMv2VisualBackbone, "__init__", lambda self, config: torch.nn.Module.__init__(self))


class Tally:
    """What is read of the norms of a type, held against what they do."""

    def __init__(self):
        self.stacks, self.norms, self.wrong, self.untold = 0, Counter(), set(), set()

    def hold(self, built, configs):
        owners = owners_of(built)
        for tensors in saved_tensors(built):
            for config in configs:
                for stack in find_stacks(checkpoint_of(tensors, config)):
                    assert stack.offset_doubt is None, (stack.name, config)
                    self.stacks += 1
                    for site in stack.sites:
                        self.hold_site(site, tensors, owners)

    def hold_site(self, site, tensors, owners):
        for _, entry in site.rows:
            owner = owners.get(tensors[entry.key].data_ptr())
            assert owner is not None or len(entry.shape) > 1, f"no module holds {entry.key}"
            acting = acting_offset(*owner) if owner is not None else 0.0  # a matrix is no norm
            if acting is None:
                self.untold.add(type(owner[0]).__name__)
            elif abs(acting - site.offset) > SAME:
                self.wrong.add((entry.key, site.place, site.offset, acting))
            else:
                self.norms[site.place if site.place in PLACES else "elsewhere"] += 1


def hold_as_saved(model_type, one, tally) -> bool:
    """Hold what a class saves, with what config.json says of its parts and with less; whether it can be built."""
    for config in configurations(model_type, lacking(model_type, one), {}):
        try:
            built = build(one, config)
        except Exception:  # whatever transformers raises, the next may work
            continue
        saved = saved_config(built.model, model_type)
        others = [change(saved, type(built.model.config)) for change in (without_types, with_another_type)]
        tally.hold(built, [saved, *(other for other in others if other != saved)])
        return True
    return False


def hold_exchanged(model_type, part, other, tally) -> bool:
    """Hold what a type saves with another text model for one of its parts; whether any class takes that."""
    found = False
    for one in classes_of(model_type):
        for config in islice(configurations(model_type, lacking(model_type, one), {part: OTHER_MODELS[other]}), 3):
            try:
                built = build(one, config)
            except Exception:  # whatever transformers raises, the next may work
                continue
            if type(built.model.config) is type(config) and holds(built.model, other):
                tally.hold(built, [saved_config(built.model, model_type)])
                found = True
            break
    return found


def holds(model, model_type):
    return any(type(part).__module__.startswith(f"transformers.models.{model_type}.") for part in model.modules())


def lacking(model_type, one):
    return ATTRIBUTES.get(model_type, {}) | ATTRIBUTES.get(one.__name__, {})


@pytest.mark.slow
@pytest.mark.parametrize("model_type", CONFIG_MAPPING_NAMES)
def test_offsets_are_those_that_the_norms_add(model_type, record_property):
    not_built = NOT_BUILT.get(model_type, {})
    tally = Tally()
    if "" in not_built:
        record_property("offsets", {"not built": model_type})
        with pytest.raises((ImportError, LookupError)):
            classes_of(model_type)[0]
        return
    classes, whole = classes_of(model_type), whole_of(model_type)
    if not classes:
        record_property("offsets", {"parts": 1})
        assert whole is not None, "transformers has no class for it: say so in NOT_BUILT"
        return
    unbuilt = {one.__name__ for one in classes if not hold_as_saved(model_type, one, tally)}
    exchanged = defaultdict(set)
    for part in text_parts(model_type):
        for other in OTHER_MODELS:
            own = Tally() if (model_type, part) in NOT_TOLD else tally
            if hold_exchanged(model_type, part, other, own):
                exchanged[part].add(other)
            assert own is tally or other == "llama" or own.wrong, "it is told: take it out of NOT_TOLD"
    counts = {"classes": len(classes) - len(unbuilt), "stacks": tally.stacks, "norms": dict(tally.norms)}
    record_property("offsets", {"built": int(counts["classes"] > 0), "wrong": len(tally.wrong), **counts})
    assert not tally.wrong
    assert not tally.untold, "of these modules it cannot be told what they add"
    assert unbuilt == set(not_built), "say why in NOT_BUILT, or take it out"
    refused = {(model_type, part) for part in text_parts(model_type) if len(exchanged[part]) < len(OTHER_MODELS)}
    assert refused == {key for key in NOT_EXCHANGED if key[0] == model_type}, "say why in NOT_EXCHANGED, or take it out"


@pytest.mark.slow
def test_the_parts_that_are_not_plain_are_listed():
    for model_type in CONFIG_MAPPING_NAMES:
        for table, fixed in ((PARTS, True), (USUAL_PARTS, False)):
            listed = table.get(model_type, {})
            parts = types_of_parts(model_type, fixed=fixed)
            assert {name: of for name, of in parts.items() if of in NOT_PLAIN or name in listed} == listed, model_type


@pytest.mark.slow
def test_a_wrong_offset_is_seen(monkeypatch):
    monkeypatch.delitem(OFFSETS, "gemma3_text")
    monkeypatch.setattr("gammatorch.architectures.offsets.is_known", lambda model_type: True)
    tally = Tally()
    assert hold_as_saved("gemma3", classes_of("gemma3")[-1], tally)
    assert {place for _, place, _, _ in tally.wrong} == {*PLACES}
    assert {(offset, round(acting)) for _, _, offset, acting in tally.wrong} == {(0, 1)}


def test_every_type_is_known_and_so_is_whether_it_is_plain():
    assert not [model_type for model_type in CONFIG_MAPPING_NAMES if not is_known(model_type)]


def test_types_with_one_configuration_are_in_the_same_tables():
    types = defaultdict(list)
    for model_type, name in CONFIG_MAPPING_NAMES.items():
        types[name].append(model_type)
    for first, *others in types.values():
        for other in others:
            assert [table.get(first) for table in TABLES] == [table.get(other) for table in TABLES], other


def test_what_the_tables_name_are_types_of_transformers_or_said_to_be_others():
    others = {"interns2_mobius", "interns2_mobius_text", "plamo2", "plamo2vl", "plamo3"}
    assert {name for table in TABLES for name in table} - CONFIG_MAPPING_NAMES.keys() == others
