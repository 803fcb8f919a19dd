"""Every model of transformers that can be made tiny: what is read against what its modules do.

Each is built with drawn norms, saved, run, and watched; the gain that acts on each block's input is recovered from what
flows through the norms and held against ``read_gains``; places, offsets and final norms of all its stacks against what
the flows tell of them. The summary at the end of the run counts the models by group.
"""

from __future__ import annotations

import re
import signal
from collections import Counter, defaultdict

import pytest
import torch
from transformers.models.auto import modeling_auto

import gammatorch
from gammatorch.verify.behaviour import ObservedBlock, observe
from gammatorch.verify.oracle import build_tiny, compare, draw_norms

GROUPS = {
    "causal": (("CAUSAL_LM",), "AutoModelForCausalLM"),
    "masked": (("MASKED_LM",), "AutoModelForMaskedLM"),
    "seq2seq": (("SEQ_TO_SEQ_CAUSAL_LM",), "AutoModelForSeq2SeqLM"),
    "multimodal": (("MULTIMODAL_LM",), "AutoModelForMultimodalLM"),
    "speech": (("SPEECH_SEQ_2_SEQ",), "AutoModelForSpeechSeq2Seq"),
    "text": (("TEXT_ENCODING",), "AutoModel"),
    "image": (("IMAGE",), "AutoModel"),
    "sound": (("CTC", "AUDIO_CLASSIFICATION"), "AutoModel"),
    "backbone": ((), "AutoModel"),
}
"""Each group's tables in transformers and the class that builds it. ``backbone`` are the types that no group before it
has: detectors, codecs, parts of other models."""
QUICK = {
    "causal": "llama gpt2 gemma3_text olmo2 qwen3_moe gpt_neox mamba cohere deepseek_v3 falcon",
    "masked": "bert modernbert",
    "seq2seq": "t5 bart",
    "multimodal": "llava qwen2_vl",
    "speech": "whisper",
    "text": "t5gemma distilbert",
    "image": "vit",
    "sound": "wav2vec2",
}
"""Types that take part without ``-m slow``: a block of each kind, pre-norm and post-norm, parallel, sandwich, mixer."""


def cases() -> list[tuple[str, str]]:
    found = {}
    for group, (tasks, _) in GROUPS.items():
        tables = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in tasks]
        found[group] = list(dict.fromkeys(model_type for table in tables for model_type in table))
    others = {model_type for types in found.values() for model_type in types}
    found["backbone"] = [model_type for model_type in modeling_auto.MODEL_MAPPING_NAMES if model_type not in others]
    return [(group, model_type) for group, types in found.items() for model_type in types]


NOT_TOLD = {
    "flaubert",  # its norms are in lists beside those of attentions and MLPs, so no block holds any
    "mgp-str",  # its blocks are in a Sequential, which is called as one
    "mimi",  # what is read is its decoder, which the tiny one's pass does not come to
    "mobilebert",  # its NoNorm multiplies what it is fed with, and normalises nothing
    "mobilevitv2",  # its norms are over all places and channels of a picture together
    "poolformer",  # as mobilevitv2
    "squeezebert",  # its norms are fed with channels before places
    "xlm",  # as flaubert
}
"""Types in whose main stack no norm shows in the flows, so that behaviour cannot tell whether what is read is right."""
BESIDE = (
    *("feature_extractor", "patch_embed", "predictor", "prompts_generator", "connector", "model.local_"),
    *("resblocks", "acoustic_decoder"),  # of decoders of sound, without norms (VITS, X-Codec)
)
TOWERS = ("vision", "visual", "video", "audio", "speech_")
RESHAPED = {"norm1", "temporal_layernorm"}
"""Norms that ViTDet and TimeSformer feed with the block's input in another order of axes, or with a part of it."""
LIMITS = ((signal.ITIMER_PROF, signal.SIGPROF, 60), (signal.ITIMER_REAL, signal.SIGALRM, 600))
"""Seconds of computing, so that a busy machine changes nothing, and of waiting, for what computes nothing."""


@pytest.fixture(autouse=True)
def time_limit():
    """One model that hangs must not hang the run."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = [signal.signal(sent, stop) for _, sent, _ in LIMITS]
    for timer, _, seconds in LIMITS:
        signal.setitimer(timer, seconds)
    yield
    for (timer, sent, _), handler in zip(LIMITS, before, strict=True):
        signal.setitimer(timer, 0)
        signal.signal(sent, handler)


def main_stack(blocks: tuple[ObservedBlock, ...]) -> list[ObservedBlock]:
    """The blocks of the stack that the text goes through: its decoder, else the one with the most norms; of stages with
    as many the last."""
    stacks: dict[str, list[ObservedBlock]] = defaultdict(list)
    for block in blocks:
        stacks[block.stack].append(block)

    def order(name: str) -> tuple[bool | int, ...]:
        return (
            not any(beside in name for beside in BESIDE),
            not any(tower in name for tower in TOWERS),
            "decoder" in name,
            any(block.norms for block in stacks[name]),
            "encoder" not in name,
            sum(bool(block.norms) for block in stacks[name]),
        )

    if not stacks:
        return []
    first = max(stacks, key=order)
    stages = [name for name in stacks if re.sub(r"\d+", "", name) == re.sub(r"\d+", "", first)]
    return stacks[max(reversed(stages), key=order)]


@pytest.mark.parametrize(
    ("group", "model_type"),
    [
        pytest.param(group, model_type, marks=[pytest.mark.slow] * (model_type not in QUICK.get(group, "").split()))
        for group, model_type in cases()
    ],
)
def test_what_is_read_is_what_acts(group, model_type, tmp_path, record_property):
    try:
        model, run = build_tiny({"model_type": model_type}, GROUPS[group][1])
    except (gammatorch.errors.CannotTell, TimeoutError) as error:
        record_property("matrix", f"{group} not built")
        pytest.skip(str(error))
    draw_norms(model)
    observed = observe(model, run)
    model.save_pretrained(tmp_path)
    main = main_stack(observed.blocks)
    acting = {block.layer: block.input_norm.gain.flatten() for block in main if block.input_norm is not None}
    try:
        gains = gammatorch.read_gains(tmp_path, device="cpu")
    except (gammatorch.SiteNotFound, gammatorch.errors.WidthMismatch) as error:
        record_property("matrix", f"{group} {'refused' if acting else 'refused, has none'}")
        assert not acting, error
        return
    outcome = judge(gains, acting, main)
    record_property("matrix", f"{group} {outcome}")
    assert outcome != "wrong", (gains.site, gains.keys, sorted(acting))
    assert (outcome == "not told") == (model_type in NOT_TOLD), "say why in NOT_TOLD, or take it out"
    assert not [found for found in compare(observed, tmp_path) if found.verdict == "differ"]


def test_quick_types_are_of_their_groups():
    assert {(group, model_type) for group in QUICK for model_type in QUICK[group].split()} <= set(cases())


def judge(gains, acting: dict[int, torch.Tensor], main: list[ObservedBlock]) -> str:
    """Exact, an analogue where nothing acts on the input, beyond what behaviour tells, or wrong."""
    if not any(block.norms for block in main):
        return "not told"
    if gains.site != "input":
        return "wrong" if acting else "analogue"
    if not acting:  # hyper-connections: no norm is fed with the block's input itself
        called = {norm.name.rpartition(".")[2] for block in main for norm in block.norms[:2]}
        return "before the mixer" if called & ({"input_layernorm", "router_norm"} | RESHAPED) else "wrong"
    rows = dict(zip(gains.layers, gains.gamma, strict=True))
    widths = Counter(len(gain) for gain in acting.values())
    in_stages = len(widths) > 1  # what is read is one of them, but for its first block where that is narrower
    if in_stages and (sorted(rows) != list(range(min(rows), max(rows) + 1)) or len(rows) + 1 < max(widths.values())):
        return "wrong"
    for layer, gain in acting.items():
        row = rows.get(layer)
        if row is None and in_stages:
            continue
        if row is None or row.shape != gain.shape or not torch.allclose(row, gain, rtol=2e-3, atol=2e-3):
            return "wrong"
    return "exact"
