"""Whether the norms of a stack stand before its sub-layers or after them, where their names are those of either.

An ordered table of rules: the first that knows decides. Each says what it was verified on, and speaks for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from gammatorch.architectures.evidence import Evidence
from gammatorch.architectures.families import POST_NORM, PRE_NORM
from gammatorch.architectures.vocabulary import MOVABLE, NUMBERED

_WAV2VEC2 = {"layer_norm", "final_layer_norm"}
_FAIRSEQ = {"self_attn_layer_norm", "final_layer_norm"}
_QUERY_FORMER = "output_query.LayerNorm"
_QUERIES = "transformer_module."
"""What holds the decoder of queries in Mask2Former and its kin, of which alone ``pre_norm`` is said."""

_SENTENCES = re.compile(r"(^|\.)sentence_encoder\.layers$")
_ON_EMBEDDINGS = ("emb_layer_norm", "layernorm_embedding")
_SAYS_BEFORE = {"opt": "do_layer_norm_before", "flaubert": "pre_norm", "xmod": "pre_norm", "patchtst": "pre_norm"}
_SAYS_AFTER = {"focalnet": "use_post_layernorm"}
_SAID_OF_EACH = ("fastspeech2_conformer", "fastspeech2_conformer_with_hifigan")
_OWN_STACK = re.compile(r"(^|\.)(?P<side>encoder|decoder)\.layers$")
_SAY_BEFORE = ("normalize_before", "encoder_normalize_before", "decoder_normalize_before", "pre_norm")
"""Settings by which other types say that norms stand before sub-layers, some of them in the encoder alone."""


class Side(NamedTuple):
    """On which side of the sub-layers norms stand under names that either may have.

    Attributes:
        before: Whether before them; else they stand on what the sub-layers give, or after the residual.
        untold: Names of which this is not told.
        ends: Whether a norm beside the stack is the one after its last block; else it stands before the first.
        said: What a setting says; None where it is inferred.
    """

    before: bool
    untold: frozenset[str] = frozenset()
    ends: bool = True
    said: bool | None = None


@dataclass(frozen=True)
class SideRule:
    """One rule.

    Attributes:
        name: What it goes by.
        verified: On which models, or in whose code.
        decide: The side; None where it does not speak for the stack.
    """

    name: str
    verified: str
    decide: Callable[[Evidence], Side | None]


def choose_side(evidence: Evidence) -> Side:
    """What the first rule that speaks for a stack says of it."""
    return next(side for rule in SIDE_RULES if (side := rule.decide(evidence)) is not None)


def _said(value: object) -> Side | None:
    return Side(value, said=value) if isinstance(value, bool) else None


def _wav2vec2(evidence: Evidence) -> Side | None:
    if not evidence.names >= _WAV2VEC2:
        return None
    before = evidence.config.says("do_stable_layer_norm") is True
    return Side(before, ends=before, said=before)


def _fairseq_speech(evidence: Evidence) -> Side | None:
    if not (evidence.names >= _FAIRSEQ and evidence.beside("pos_conv")):
        return None
    before = evidence.config.says("layer_norm_first")
    return Side(False, MOVABLE, ends=False) if before is None else Side(before, ends=before, said=before)


def _fairseq_text(evidence: Evidence) -> Side | None:
    own = _OWN_STACK.search(evidence.stack)
    if own is None or evidence.types or not evidence.names >= _FAIRSEQ:
        return None
    return _said(evidence.config.says(f"{own['side']}_normalize_before"))


def _fairseq_sentences(evidence: Evidence) -> Side | None:
    is_roberta = _SENTENCES.search(evidence.stack) and any(map(evidence.beside, _ON_EMBEDDINGS))
    return Side(evidence.ends) if is_roberta and not evidence.types and evidence.names >= _FAIRSEQ else None


def _query_former(evidence: Evidence) -> Side | None:
    return Side(False, ends=False) if _QUERY_FORMER in evidence.names else None


def _detector(evidence: Evidence) -> Side | None:
    if "decoder" not in evidence.stack or not evidence.is_of(POST_NORM):
        return None
    return _said(_QUERIES in evidence.stack and evidence.config.raw.get("pre_norm") is True)


def _fastspeech2(evidence: Evidence) -> Side | None:
    if not evidence.is_of(_SAID_OF_EACH):
        return None
    own = evidence.config.part_of(evidence.stack)[0].get("normalize_before")  # decoder_config's goes before the rest
    side = "decoder" if "decoder" in evidence.stack else "encoder"
    return _said(own if isinstance(own, bool) else evidence.config.says(f"{side}_normalize_before"))


def _setting_of_type(evidence: Evidence) -> Side | None:
    part, types = evidence.config.part_of(evidence.stack)
    for table, meaning in ((_SAYS_BEFORE, True), (_SAYS_AFTER, False)):
        for model_type in types:
            value = part.get(table.get(model_type, ""))
            if isinstance(value, bool):
                return _said(value is meaning)
    return None


def _flash_attn(evidence: Evidence) -> Side | None:
    return _said(evidence.config.says("prenorm")) if evidence.is_flash_attn else None


def _diffusers(evidence: Evidence) -> Side | None:
    return Side(True) if evidence.is_diffusers else None


def _type_without_final(evidence: Evidence) -> Side | None:
    before = any(re.search(PRE_NORM[name], evidence.stack) for name in evidence.types if name in PRE_NORM)
    return Side(True) if before else None


def _torch(evidence: Evidence) -> Side | None:
    return Side(evidence.ends, NUMBERED) if evidence.is_torch and not evidence.is_known else None


def _relative_positions(evidence: Evidence) -> Side | None:
    untold = evidence.has_relative_positions and "architecture" not in evidence.config.whole
    return Side(evidence.ends, NUMBERED) if untold and not evidence.is_known else None


def _tower(evidence: Evidence) -> Side | None:
    return Side(True) if evidence.is_tower else None


def _patches(evidence: Evidence) -> Side | None:
    return Side(True) if not evidence.types and evidence.embeds_patches else None


def _final(evidence: Evidence) -> Side | None:
    return Side(True) if evidence.ends else None


def _no_final(evidence: Evidence) -> Side:
    may_be_before = any(evidence.config.raw.get(name) is True for name in _SAY_BEFORE)
    if evidence.is_known:
        return Side(False, MOVABLE if may_be_before else frozenset())
    if evidence.may_end_elsewhere or may_be_before:
        return Side(False, MOVABLE)
    return Side(False, NUMBERED if not evidence.is_swin_v2 else frozenset())


SIDE_RULES = (
    SideRule(
        "wav2vec 2.0 in transformers",
        "Wav2Vec2, HuBERT, WavLM, UniSpeech, SEW and what builds on them, run with either do_stable_layer_norm",
        _wav2vec2,
    ),
    SideRule(
        "wav2vec 2.0 in its authors' files",
        "fairseq wav2vec2.py (wav2vec 2.0, HuBERT, data2vec), unilm WavLM.py and BEATs.py: the encoder's own norm "
        "follows the last block with layer_norm_first, and precedes the first without",
        _fairseq_speech,
    ),
    SideRule(
        "query former", "BLIP-2, InstructBLIP: post-LN, and the norm beside them is on the queries", _query_former
    ),
    SideRule(
        "decoder of detections",
        "DETR and its kin in transformers, post-LN; Mask2Former and OneFormer by pre_norm",
        _detector,
    ),
    SideRule("FastSpeech 2", "transformers FastSpeech2Conformer, by normalize_before of each stack", _fastspeech2),
    SideRule("setting of the type", "transformers OPT, Flaubert, X-MOD, PatchTST, FocalNet", _setting_of_type),
    SideRule(
        "prenorm",
        "flash-attn block.py and nomic-ai/contrastors block.py, which have blocks of either kind by this setting",
        _flash_attn,
    ),
    SideRule(
        "normalize_before of fairseq",
        "fairseq transformer_layer.py, encoder.layers and decoder.layers; not RoBERTa's sentence_encoder",
        _fairseq_text,
    ),
    SideRule(
        "RoBERTa of fairseq",
        "fairseq transformer_sentence_encoder.py and roberta/model.py (RoBERTa, XLM-R): encoder_normalize_before is of "
        "the embeddings in the old, and puts a norm after the last block in the new (XLM-R XL)",
        _fairseq_sentences,
    ),
    SideRule("diffusers", "BasicTransformerBlock and what was made after it: the last norm has no weights", _diffusers),
    SideRule(
        "type without a final norm", "the types of PRE_NORM, built with transformers and run", _type_without_final
    ),
    SideRule(
        "PyTorch's own layers",
        "nn.TransformerEncoderLayer and nn.TransformerDecoderLayer: norm_first stands in no file, and nn.Transformer "
        "has a norm after the last block either way",
        _torch,
    ),
    SideRule("relative positions in timm", "vit_relpos_*: with and without residual post-norm", _relative_positions),
    SideRule("tower", "towers in transformers, which hand on what their last block gives", _tower),
    SideRule("patches without a config.json", "timm 1.0: ViT, EVA, BEiT and others, 78 architectures run", _patches),
    SideRule(
        "a norm follows the last block",
        "all pre-norm types in transformers; fairseq, nanoGPT, LitGPT, OLMo, Whisper, OpenCLIP, RWKV, Megatron-LM",
        _final,
    ),
    SideRule(
        "no norm follows the last block",
        "all post-LN types in transformers, fairseq; no place is told where a setting, a time step or a norm of an "
        "unknown name leaves it open, and where the names of an unknown type are mere numbers",
        _no_final,
    ),
)
"""In order; the last one always speaks."""
