"""Which norms a user may have meant, the likeliest first, where no rule tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gammatorch.architectures.base import LAYER, NormSite

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


def likely_first(sites: Sequence[NormSite], place: str) -> list[NormSite]:
    """Norms in the order in which one of them may stand at a place: by its name, then by how many layers have it.

    Args:
        sites: Norms of a stack.
        place: A place of :data:`~gammatorch.architectures.base.PLACES`.

    Example:
        >>> names = ["mlp.norm", "out_norm", "att.norm"]
        >>> sites = [NormSite(name, f"h.{{layer}}.{name}.weight", (), 0.0) for name in names]
        >>> [site.place for site in likely_first(sites, "input")]
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
