"""Groups of the glossary as tables in Markdown, for the manual."""

from __future__ import annotations

from gammatorch.reports.glossary.entry import formula_label
from gammatorch.reports.glossary.table import GLOSSARY


def group_table(group: str) -> str:
    """The entries of a group as a Markdown table: the name, what it is, how to read it.

    Args:
        group: A name from :data:`~gammatorch.reports.glossary.entry.GROUPS`.

    Example:
        >>> print(group_table("method").splitlines()[2][:60])
        | svd | Principal axes by singular value decomposition; gain
    """
    rows = ["| name | what it is, and how to read it |", "| --- | --- |"]
    for title, entry in GLOSSARY.items():
        if entry.group == group:
            formula = entry.formula and f"{formula_label(entry).capitalize()}: `{entry.formula}`."
            told = " ".join(filter(None, (entry.what, formula, entry.reading)))
            rows.append(f"| {title} | {told} |".replace("|γ", r"\|γ").replace("γ|", r"γ\|").replace("γ'|", r"γ'\|"))
    return "\n".join(rows)
