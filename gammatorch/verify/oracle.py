"""transformers as the oracle: what it does with the norms of a model, beside what headers and tables say of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gammatorch.architectures.base import NormSite, Stack
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import JsonObject
from gammatorch.checkpoints.opening import open_checkpoint
from gammatorch.errors import CannotTell
from gammatorch.verify.behaviour import Observation, ObservedNorm, draw_norms, observe
from gammatorch.verify.inputs import possible_inputs
from gammatorch.verify.needed import NEEDED
from gammatorch.verify.shrink import tiny_settings

_MOST_PARAMETERS = 50_000_000
"""A tiny model has fewer."""

_TOLERANCE = 5e-3
"""Largest difference between the gain observed and offset + stored weight that counts as the same."""


def norm_name(site: NormSite) -> str:
    """Name of a site's norm within the block: its pattern after the layer's index, without the leaf."""
    return site.pattern.rpartition("{layer}.")[2].rpartition(".")[0]


@dataclass(frozen=True)
class Finding:
    """One norm of the tiny model: what was said of it, and what it does.

    Attributes:
        stack: Its stack.
        name: Its name within the block.
        place: Where the headers say it stands.
        offset: The offset that the table gives.
        observed_offset: The offset that it applies: gain − stored weight; None if it was not seen to act.
        on_input: Whether the first block in which it was called feeds it with its own input.
        side: Whether it acts ``"before"`` a sub-layer or ``"after"`` one, on its output; None if that does not show.
        verdict: ``"agree"``, ``"differ"`` or ``"cannot tell"``.
    """

    stack: str
    name: str
    place: str
    offset: float
    observed_offset: float | None
    on_input: bool
    side: str | None
    verdict: str


def verify(config: JsonObject, stacks: Sequence[Stack] = ()) -> list[Finding]:
    """Ask transformers whether places and offsets are right for a configuration.

    The class that it names is built tiny, without weights and without code from any repository; its norms are drawn,
    it is run once and saved, and what each norm did is held against what is read from the saved headers.

    Args:
        config: A parsed config.json.
        stacks: The stacks of the checkpoint itself; norms of the main one that the tiny model lacks are findings that
            cannot tell.

    Returns:
        A finding per norm that was called, one for each name in a stack.

    Raises:
        CannotTell: transformers has no such class, or it cannot be made tiny or run.
    """
    model, run = build_tiny(config)
    draw_norms(model)
    with tempfile.TemporaryDirectory(prefix="gammatorch-verify-") as folder:
        model.save_pretrained(folder)
        findings = compare(observe(model, run), Path(folder))
    seen = {finding.name for finding in findings}
    unseen = [
        Finding(stack.name, norm_name(site), site.place, site.offset, None, False, None, "cannot tell")
        for stack in stacks
        if stack.main
        for site in stack.sites
        if site.place != "final" and norm_name(site) not in seen
    ]
    return findings + unseen


def compare(observed: Observation, folder: Path) -> list[Finding]:
    """What the norms of a saved model did, beside what its headers say.

    Args:
        observed: What was observed.
        folder: Where the model was saved.
    """
    from safetensors.torch import load_file

    stored: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored |= load_file(file)
    site_of = {
        entry.key: (stack.name, site)
        for stack in find_stacks(open_checkpoint(folder))
        for site in stack.sites
        for _, entry in site.rows
    }
    candidates = {key: stored[key].double().flatten() for key in site_of}
    findings: dict[tuple[str, str], Finding] = {}
    acting = [(norm, block.input_norm is norm) for block in observed.blocks for norm in block.norms]
    for norm, first in [*acting, *((norm, False) for norm in observed.finals.values())]:
        matched = _match(norm, candidates)
        if matched is None:
            continue
        key, offset = matched
        stack, site = site_of[key]
        finding = _judge(stack, site, offset, norm, first)
        kept = findings.get((stack, finding.name))
        if kept is None or (finding.verdict == "differ" and kept.verdict != "differ"):
            findings[stack, finding.name] = finding
    return list(findings.values())


def _match(norm: ObservedNorm, candidates: Mapping[str, Tensor]) -> tuple[str, float] | None:
    """The stored tensor that differs from the gain by one number, and that number."""
    gain = norm.gain.flatten()
    for key, weight in candidates.items():
        if weight.numel() == gain.numel():
            difference = gain - weight
            offset = float(difference.median())
            if float((difference - offset).abs().max()) <= _TOLERANCE:
                return key, round(offset, 3) + 0.0  # no negative zero
    return None


_WRONG_SIDE = {"input": "after", "pre_mlp": "after", "post_attention": "before", "post_mlp": "before"}


def _judge(stack: str, site: NormSite, observed: float, norm: ObservedNorm, first: bool) -> Finding:
    if (
        abs(observed - site.offset) > _TOLERANCE
        or (first and site.place != "input")
        or (norm.side is not None and norm.side == _WRONG_SIDE.get(site.place))
    ):
        verdict = "differ"
    elif site.place == "input" and not norm.on_input:
        verdict = "cannot tell"  # hyper-connections feed it with a mix of streams
    else:
        verdict = "agree"
    return Finding(stack, norm_name(site), site.place, site.offset, observed, norm.on_input, norm.side, verdict)


def build_tiny(config: JsonObject, auto_class: str | None = None) -> tuple[Any, Callable[[], object]]:
    """The tiny model and a function that runs it once.

    Args:
        config: A parsed config.json, or just ``{"model_type": …}`` for the type's defaults.
        auto_class: Name of the Auto class to build with; the class that config.json names if None.

    Raises:
        CannotTell: transformers has no such class, or no way to make it tiny works.
    """
    import transformers
    from transformers import AutoConfig

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model_type = str(config.get("model_type"))
    if model_type not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        raise CannotTell(
            f"transformers {transformers.__version__} does not hold model type {model_type!r}, and code in a "
            "repository is not executed; the mean of the stored weights that `gammatorch run` prints is near 1 where "
            "γ = w, near 0 where γ = 1 + w"
        )
    given = {name: value for name, value in config.items() if name != "model_type"}
    failures: list[Exception] = []
    for settings in settings_to_try(AutoConfig, model_type, given, failures):
        try:
            torch.manual_seed(0)
            tiny = AutoConfig.for_model(model_type, **settings)
            if auto_class == "AutoModelForCausalLM" and hasattr(tiny, "is_decoder"):
                tiny.is_decoder = True
            build = _model_class(transformers, tiny, config, auto_class)
            _check_size(build, tiny)
            model = build(tiny).eval().float()
            return model, _runner(model)
        except Exception as error:  # whatever transformers raises, the next attempt may work
            failures.append(error)
    reason = " ".join(str(failures[0]).split())[:200] if failures else "no settings to try"
    raise CannotTell(f"model type {model_type!r} cannot be made tiny and run: {reason}")


def _check_size(build: Callable[[Any], Any], tiny: Any) -> None:
    """Refuse, before memory is taken, what some setting that no rule knows has left large."""
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build(tiny).parameters())
    except Exception:  # some models compute while they are built, which needs numbers
        return
    if parameters > _MOST_PARAMETERS:
        raise CannotTell(f"{parameters} parameters are left after shrinking")


def settings_to_try(
    auto_config: Any, model_type: str, given: JsonObject, failures: list[Exception]
) -> Iterator[JsonObject]:
    """Settings to try: the configuration's own, shrunk; then the type's defaults, shrunk.

    Args:
        auto_config: The class ``AutoConfig``.
        model_type: The type.
        given: The configuration's own settings, none for the type's defaults.
        failures: Takes what goes wrong.
    """
    needed = NEEDED.get(model_type, {})
    for base in [given, needed] if given else [needed]:
        try:
            full = auto_config.for_model(model_type, **base)
        except Exception as error:
            failures.append(error)
            continue
        for settings in tiny_settings(full):
            yield _merged(_merged(base, settings), NEEDED.get(model_type, {}))


def _merged(base: JsonObject, settings: JsonObject) -> JsonObject:
    """The settings over the base, level by level."""
    merged = dict(base)
    for name, value in settings.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(value, dict) and isinstance(old, Mapping) else value
    return merged


def _model_class(transformers: Any, tiny: Any, config: JsonObject, auto_class: str | None) -> Callable[[Any], Any]:
    if auto_class is not None:
        return getattr(transformers, auto_class).from_config  # type: ignore[no-any-return]
    for name in config.get("architectures") or ():
        if isinstance(name, str) and isinstance(getattr(transformers, name, None), type):
            return getattr(transformers, name)  # type: ignore[no-any-return]
    for auto in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMultimodalLM", "AutoModel"):
        known = getattr(transformers, auto, None)
        if known is not None and type(tiny) in known._model_mapping:
            return known.from_config  # type: ignore[no-any-return]
    raise CannotTell(f"transformers has no model class for {type(tiny).__name__}")


def _runner(model: Any) -> Callable[[], object]:
    """A call that the model takes: the first arguments that work of those that its signature suggests."""
    failures: list[Exception] = []
    for arguments in possible_inputs(model):
        try:
            with torch.no_grad():
                model(**arguments)
            return lambda arguments=arguments: model(**arguments)  # type: ignore[misc]
        except Exception as error:
            failures.append(error)
    raise failures[0] if failures else CannotTell("its forward takes neither tokens nor pictures nor sound")
