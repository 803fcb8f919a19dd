"""Choose the tensors of one run, and refuse what does not hold together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gammatorch.architectures.base import ANY, LAYER, PLACES, NormSite, Selection, Stack
from gammatorch.architectures.config import model_config
from gammatorch.architectures.expected import check_same_width, check_site, layers_of, named_layers
from gammatorch.architectures.keys import is_batch_norm, own_name, two_for_one, unwrapped
from gammatorch.architectures.shortcut import select_by_search
from gammatorch.architectures.stacks import find_stacks
from gammatorch.architectures.stages import main_stage, outer_of, patterns_by_stage, stages_of
from gammatorch.architectures.vocabulary import is_strange
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.weights import ADAPTER_CONFIG
from gammatorch.errors import IncompleteCheckpoint, InvalidArgument, SiteNotFound, StackNotFound

_FLAT = "_flat_param"

_NAMED = 8
"""Candidates that a message names."""

_BEFORE = r"pre|before|input|begin|start|first|(^|[._])in[._]|[._]?[01]$"
_AFTER = r"post|after|out(put)?|final|last|end|[._]?[2-9]$"
_MIXER = r"att|(^|[._])sa([._]|$)|mix|token|temporal|time|ssm|mamba|conv|reten|recur"
_MLP = r"mlp|ff|feed|moe|expert|channel"
_QUERY, _KEY = r"(^|[._])q(uery)?([._]|$)", r"(^|[._])k(ey)?([._]|$)"
_CROSS = r"cross|enc"

_SPEAKS: Mapping[str, Mapping[str, int]] = {
    "input": {_BEFORE: 3, _MIXER: 2, _AFTER: -3, _MLP: -3, _QUERY: -4, _KEY: -4},
    "post_attention": {_AFTER: 3, _MIXER: 3, _BEFORE: -2, _MLP: -3, _QUERY: -4, _KEY: -4},
    "pre_mlp": {_MLP: 3, _BEFORE: 2, _MIXER: -2, _QUERY: -4, _KEY: -4},
    "post_mlp": {_MLP: 3, _AFTER: 3, _BEFORE: -2, _MIXER: -2, _QUERY: -4, _KEY: -4},
    "query": {_QUERY: 6, _KEY: -3, _MLP: -3},
    "key": {_KEY: 6, _QUERY: -3, _MLP: -3},
}
"""What in a norm's name speaks for a place or against it, and how loud."""


def select(
    checkpoint: Checkpoint,
    site: str = "auto",
    *,
    stack: str | None = None,
    pattern: str | None = None,
    stacks: Sequence[Stack] | None = None,
) -> Selection:
    """Choose the tensors of one site, one row per layer, in layer order.

    Layer indices, their count and the widths are held against each other and against config.json: none may be
    missing, and none is invented.

    Args:
        checkpoint: An open checkpoint.
        site: A place of :data:`~gammatorch.architectures.base.PLACES`, or ``"auto"``: ``input``, and where a model
            has no learned norm there, the nearest analogue.
        stack: Name of the stack, or a part of its name that no other has; the main one if None. Of a stack of stages,
            its main stage is read.
        pattern: Keys to read instead of a site, with ``{layer}`` for the index.
        stacks: The checkpoint's stacks, where :func:`~gammatorch.find_stacks` has found them already.

    Raises:
        SiteNotFound: The model has no norm at that site, or no tensor for that pattern.
        StackNotFound: It has no such stack, or several.
        IncompleteCheckpoint: Layers are missing, or more are there than config.json says.
        WidthMismatch: The rows differ in width, or are not as wide as config.json says.
        InvalidArgument: The arguments contradict each other.
    """
    if checkpoint.missing is not None and pattern is None:
        raise IncompleteCheckpoint(
            f"{checkpoint.missing}; --pattern reads the norms that are there", file=checkpoint.source.name
        )
    if pattern is not None:
        if stack is not None or site != "auto":
            raise InvalidArgument("pass a pattern, or a site and a stack, not both")
        return _by_pattern(checkpoint, pattern, stacks)
    if site != "auto" and site not in PLACES:
        raise InvalidArgument(f"there is no site {site!r}: pass auto, {', '.join(PLACES)}")
    found_quickly = select_by_search(checkpoint, site) if stack is None and stacks is None else None
    if found_quickly is not None:
        return found_quickly
    return _by_site(checkpoint, site, stack, find_stacks(checkpoint) if stacks is None else stacks)


def sites_of(checkpoint: Checkpoint, stack: str | None = None) -> list[str]:
    """The places of :data:`~gammatorch.architectures.base.PLACES` at which a stack has norms, in their order.

    Args:
        checkpoint: An open checkpoint.
        stack: As for :func:`select`.

    Raises:
        SiteNotFound: It has no norms in any block.
        StackNotFound: It has no such stack, or several.
    """
    chosen, holder = choose_stack(find_stacks(checkpoint), stack, checkpoint)
    known = {site.place for one in (chosen, holder) if one is not None for site in one.sites}
    return [place for place in PLACES if place in known]


def _by_site(checkpoint: Checkpoint, site: str, stack: str | None, stacks: Sequence[Stack]) -> Selection:
    chosen, holder = choose_stack(stacks, stack, checkpoint)
    notes = (*holder.notes, *chosen.notes) if holder is not None else chosen.notes
    if site == "final" and holder is not None and chosen.site(site) is None and holder.site(site) is not None:
        chosen, holder = holder, None  # after the last block of all
    found, reason = _choose_site(chosen, site, checkpoint)
    if holder is not None:
        reason += f"; stack {chosen.name}, the main one of {len(holder.stages)} stages"
    found, of_rows = check_site(chosen, found, stacks, checkpoint)
    return Selection(
        site=found.place,
        reason=reason,
        stack=chosen.name,
        pattern=found.pattern,
        offset=found.offset,
        offset_doubt=chosen.offset_doubt,
        layers=layers_of(chosen, found),
        entries=tuple(entry for _, entry in found.rows),
        notes=(*notes, *of_rows),
    )


def is_lora(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint holds the low-rank matrices of an adapter.

    Args:
        checkpoint: An open checkpoint.
    """
    return any(".lora_" in key for key in checkpoint.entries)


def base_model(checkpoint: Checkpoint) -> str | None:
    """The model that an adapter is for, as adapter_config.json names it; None where it does not.

    Args:
        checkpoint: The adapter, open.
    """
    told = checkpoint.settings.get(ADAPTER_CONFIG, {}).get("base_model_name_or_path")
    return told if isinstance(told, str) and told else None


def choose_stack(stacks: Sequence[Stack], name: str | None, checkpoint: Checkpoint) -> tuple[Stack, Stack | None]:
    """The stack that a name means, and the one that holds it where it is that one's main stage, chosen by rule.

    Args:
        stacks: All of them, the main one first.
        name: Name of the stack, or a part of its name that no other has; the main one if None.
        checkpoint: What they are of.

    Raises:
        SiteNotFound: There is none.
        StackNotFound: None has such a name, or several.
    """
    named = _named_stack(stacks, name, checkpoint)
    if name is None:
        return named, outer_of(named, stacks)
    main = main_stage(stages_of(named, stacks))
    return (main, named) if main is not None else (named, None)


def _named_stack(stacks: Sequence[Stack], name: str | None, checkpoint: Checkpoint) -> Stack:
    where = checkpoint.name
    if not stacks and is_lora(checkpoint):
        base = base_model(checkpoint)
        named = f", {base}" if base is not None else ""
        raise SiteNotFound(
            f"holds a LoRA adapter, which leaves the norms of its base model as they are: pass that model{named}",
            file=where,
        )
    if not stacks and any(key.rpartition(".")[2].startswith(_FLAT) for key in checkpoint.entries):
        raise SiteNotFound(
            f"holds FSDP's flattened parameters ({_FLAT}), in which no norm has a name: save the model again with a "
            "full or a sharded state dict",
            file=where,
        )
    if not stacks:
        raise SiteNotFound(
            "no norm in any numbered block (norms without weights, like OLMo 1's, have no gain): "
            "`gammatorch inspect` lists what there is, --pattern reads any tensor",
            file=where,
        )
    if name is None:
        return stacks[0]
    exact = [stack for stack in stacks if stack.name == name]
    near = exact or [stack for stack in stacks if name in stack.name]
    near = [stack for stack in near if outer_of(stack, near) is None]  # a stack means its stages as well
    if len(near) == 1:
        return near[0]
    known = ", ".join(stack.name or "''" for stack in near or stacks)
    problem = "several stacks have" if near else "no stack has"
    raise StackNotFound(f"{problem} {name!r} in their name: pass --stack with one of {known}", file=where)


def _choose_site(stack: Stack, site: str, checkpoint: Checkpoint) -> tuple[NormSite, str]:
    """The site asked for and why; for ``auto`` the analogue nearest to the block's input."""
    wanted = "input" if site == "auto" else site
    found = stack.site(wanted)
    if stack.stages and (wanted != "final" or found is None):
        raise SiteNotFound(
            f"the names in the stages of stack {stack.name!r} do not tell which norm is site {wanted!r}: "
            "pass --pattern with one of those that `gammatorch inspect` lists",
            file=checkpoint.name,
        )
    if found is not None:
        on = f", here fed with {stack.fed_with}" if wanted == "input" and stack.fed_with is not None else ""
        return found, PLACES[wanted] + on
    analogue = stack.site("post_attention")
    strange = [known for known in stack.sites if known.place not in PLACES and is_strange(known.place)]
    if strange and not model_config(checkpoint).is_known:
        analogue = None  # one of these may stand on the block's input
    if site == "auto" and analogue is not None:
        return analogue, (
            f"no learned norm stands on the block's input ({stack.layout}); "
            f"post_attention is the nearest: {PLACES['post_attention']}"
        )
    within = [known for known in stack.sites if known.place not in ("query", "key", "final")]
    if site == "auto" and [known.place for known in within] == ["pre_mlp"]:
        return within[0], f"no learned norm stands on the block's input; its only one stands {PLACES['pre_mlp']}"
    places = [f"{known.place} ({known.pattern})" for known in stack.sites if known.place in PLACES]
    in_blocks = any(known.place in PLACES and known.place != "final" for known in stack.sites)
    possible = strange or [known for known in stack.sites if known.place != "final"]
    candidates = _patterns(_likely_first(possible, wanted))
    if (in_blocks and not strange) or not candidates:
        raise SiteNotFound(
            f"no learned norm at site {wanted!r} in stack {stack.name!r}: pass --site with one of {', '.join(places)}"
            if places
            else f"no norm in the blocks of stack {stack.name!r}",
            file=checkpoint.name,
        )
    named = ", ".join(candidates[:_NAMED]) + (" …" if len(candidates) > _NAMED else "")
    problem = (
        f"the norms in stack {stack.name!r} are batch norms, by the running mean beside each, and no layer or RMS norm "
        f"is site {wanted!r}"
        if _are_over_batch(stack)
        else f"the names in stack {stack.name!r} do not tell which norm is site {wanted!r}"
    )
    raise SiteNotFound(
        f"{problem} (there are {named}): pass --pattern {candidates[0]!r} or another of them",
        file=checkpoint.name,
    )


def _are_over_batch(stack: Stack) -> bool:
    """Whether all norms in the blocks of a stack are batch norms."""
    kinds = frozenset().union(*stack.kinds.values())
    names = (own_name(site.pattern.partition(f"{LAYER}.")[2]) for site in stack.sites if site.place != "final")
    return all(is_batch_norm(name, kinds) for name in names)


def _patterns(sites: Sequence[NormSite]) -> list[str]:
    """Patterns by which norms can be read: within a stage where those of all stages differ in width."""
    as_wide = all(len({entry.width for _, entry in site.rows}) == 1 for site in sites)
    return ([] if as_wide else list(patterns_by_stage(sites))) or [site.pattern for site in sites]


def _by_pattern(checkpoint: Checkpoint, pattern: str, stacks: Sequence[Stack] | None) -> Selection:
    if pattern.count(LAYER) != 1:
        raise InvalidArgument(f"a pattern holds {LAYER} once, for the layer's index: {pattern!r}")
    plain = re.escape(unwrapped(pattern)).replace(re.escape(ANY), r"[^.]+")
    matcher = re.compile(plain.replace(re.escape(LAYER), r"([0-9]{1,9})"))
    matches = ((matcher.fullmatch(unwrapped(key)), key) for key in checkpoint.entries)
    rows = sorted((int(match[1]), checkpoint.entries[key]) for match, key in matches if match)
    if not rows:
        skeletons = {re.sub(r"(^|(?<=\.))[0-9]+(?=\.)", LAYER, key, count=1) for key in checkpoint.entries}
        close = difflib.get_close_matches(pattern, sorted(skeletons), n=3, cutoff=0.5)
        hint = f"closest: {', '.join(close)}" if close else "`gammatorch inspect` lists what there is"
        raise SiteNotFound(f"no tensor matches the pattern {pattern!r} ({hint})", file=checkpoint.name)
    layers, entries = tuple(layer for layer, _ in rows), tuple(entry for _, entry in rows)
    for (layer, entry), (twin, other) in pairwise(rows):
        if layer == twin:
            raise two_for_one(layer, entry, other)
    check_same_width(entries, checkpoint)
    known = next(
        (
            (stack, site)
            for stack in (find_stacks(checkpoint) if stacks is None else stacks)
            for site in stack.sites
            if site.pattern == unwrapped(pattern)
        ),
        None,
    )
    place = known[1].place if known is not None and known[1].place in PLACES else None
    gaps = sorted(set(range(layers[-1] + 1)) - set(layers))
    return Selection(
        site=place if place is not None else "pattern",
        reason=f"the pattern asked for, {PLACES[place]}" if place is not None else "the pattern asked for",
        stack=known[0].name if known else None,
        pattern=pattern,
        offset=known[1].offset if known else 0.0,
        offset_doubt=known[0].offset_doubt if known else None,  # a tensor that is no norm has no offset
        layers=layers,
        entries=entries,
        notes=(
            *((checkpoint.missing,) if checkpoint.missing is not None else ()),
            *((f"no tensor for {named_layers(gaps)}",) if gaps else ()),
        ),
    )


def _likely_first(sites: Sequence[NormSite], place: str) -> list[NormSite]:
    """Norms in the order in which one of them may stand at a place: by its name, then by how many layers have it.

    Example:
        >>> names = ["mlp.norm", "out_norm", "att.norm"]
        >>> sites = [NormSite(name, f"h.{{layer}}.{name}.weight", (), 0.0) for name in names]
        >>> [site.place for site in _likely_first(sites, "input")]
        ['att.norm', 'out_norm', 'mlp.norm']
    """
    widths = [entry.width for site in sites for _, entry in site.rows]
    usual = max(set(widths), key=widths.count, default=0)
    speaks = {**_SPEAKS.get(place, {}), _CROSS: -2}

    def order(site: NormSite) -> tuple[int, int, int]:
        name = site.pattern.rpartition(f"{LAYER}.")[2].rpartition(".")[0]
        said = sum(loud for words, loud in speaks.items() if re.search(words, name, re.IGNORECASE))
        is_wide = any(entry.width == usual for _, entry in site.rows)
        return -said - 2 * is_wide, -len(site.rows), name.count(".")

    return sorted(sites, key=order)
