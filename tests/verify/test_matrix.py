"""Every language model of transformers that can be made tiny: what is read against what its modules do.

Each is built with drawn norms, saved, run, and watched; the gain that acts on each block's input is recovered from what
flows through the norms and held against ``read_gains``. The summary at the end of the run counts them by group.
"""

from __future__ import annotations

import signal
from collections import defaultdict

import pytest
import torch
from transformers.models.auto import modeling_auto

import gammatorch
from gammatorch.verify.behaviour import ObservedBlock, observe
from gammatorch.verify.oracle import build_tiny, compare, draw_norms

GROUPS = {
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM"),
    "masked": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "AutoModelForMaskedLM"),
    "seq2seq": ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "AutoModelForSeq2SeqLM"),
    "multimodal": ("MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", "AutoModelForMultimodalLM"),
}
CASES = [
    (group, model_type) for group, (mapping, _) in GROUPS.items() for model_type in getattr(modeling_auto, mapping, {})
]
SLOW = {"blt", "xlm", "flaubert", "gemma4", "gemma4_text"}
EMBEDDING_NORM_FIRST = {"rwkv": "its first block also norms the embeddings, before the norm that all blocks have"}
SILENT_ATTENTION = {"mra": "its sparse attention gives nothing for so few tokens, so its post-LN is fed with the input"}
TOWERS = ("vision", "visual", "audio", "encoder")
SECONDS = 60


@pytest.fixture(autouse=True)
def time_limit():
    """One model that hangs must not hang the run."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def main_stack(blocks: list[ObservedBlock]) -> list[ObservedBlock]:
    """The blocks of the stack that the text goes through: the decoder, else the one with the most norms."""
    stacks: dict[str, list[ObservedBlock]] = defaultdict(list)
    for block in blocks:
        stacks[block.stack].append(block)
    return max(
        stacks.values(),
        key=lambda stack: (
            "decoder" in stack[0].stack,
            not any(tower in stack[0].stack for tower in TOWERS),
            sum(bool(block.norms) for block in stack),
        ),
        default=[],
    )


@pytest.mark.parametrize(
    ("group", "model_type"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1] in SLOW else [], id="-".join(case)) for case in CASES],
)
def test_what_is_read_is_what_acts(group, model_type, tmp_path, record_property):
    try:
        model, run = build_tiny({"model_type": model_type}, GROUPS[group][1])
    except (gammatorch.errors.CannotTell, TimeoutError) as error:
        record_property("matrix", f"{group} not built")
        pytest.skip(str(error))
    draw_norms(model)
    blocks = observe(model, run)
    model.save_pretrained(tmp_path)
    acting = {
        block.layer: block.input_norm.gain.flatten() for block in main_stack(blocks) if block.input_norm is not None
    }
    try:
        gains = gammatorch.read_gains(tmp_path, device="cpu")
    except gammatorch.SiteNotFound:
        record_property("matrix", f"{group} {'refused' if acting else 'refused, has none'}")
        return
    outcome = judge(gains, acting, blocks, model_type)
    record_property("matrix", f"{group} {outcome}")
    assert outcome != "wrong", (gains.site, gains.keys, sorted(acting))
    differing = [found for found in compare(blocks, tmp_path) if found.verdict == "differ"]
    if model_type not in EMBEDDING_NORM_FIRST.keys() | SILENT_ATTENTION.keys():
        assert not differing


def judge(gains, acting: dict[int, torch.Tensor], blocks: list[ObservedBlock], model_type: str) -> str:
    """Exact, an analogue where nothing acts on the input, beyond what behaviour tells, or wrong."""
    if gains.site != "input":
        return "wrong" if acting and model_type not in SILENT_ATTENTION else "analogue"
    if not acting:  # hyper-connections: no norm is fed with the block's input itself
        called = {norm.name.rpartition(".")[2] for block in main_stack(blocks) for norm in block.norms[:2]}
        return "before the mixer" if called & {"input_layernorm", "router_norm"} else "wrong"
    rows = dict(zip(gains.layers, gains.gamma, strict=True))
    for layer, gain in acting.items():
        if layer == 0 and model_type in EMBEDDING_NORM_FIRST:
            continue
        row = rows.get(layer)
        if row is None or row.shape != gain.shape or not torch.allclose(row, gain, rtol=2e-3, atol=2e-3):
            return "wrong"
    return "exact"
