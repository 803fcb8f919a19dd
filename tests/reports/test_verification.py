"""The table of ``inspect --verify``: 80 columns, nothing lost."""

from __future__ import annotations

import io

import pytest

from gammatorch.reports.console import make_console
from gammatorch.reports.inspection import print_verification
from gammatorch.verify.oracle import Finding


def printed(*findings: Finding) -> list[str]:
    out = io.StringIO()
    print_verification(findings, None, make_console(out))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        ("model.layers", "input_layernorm"),
        ("encoder.albert_layer_groups", "albert_layers.0.full_layer_layer_norm"),
        ("model.vision_tower.transformer.resblocks", "attention.output.LayerNorm.inner.query_key_layernorm"),
        ("", "a_norm_whose_name_has_no_dot_anywhere_and_is_longer_than_its_column"),
        ("model.layers", "x" * 200),
        ("m" * 90, "norm"),
    ],
)
def test_no_line_is_wider_than_80_columns_and_names_are_whole(stack, name):
    agree = Finding(stack, name, name, 5**-1.5, 0.089, True, None, "cannot tell")
    differ = Finding(stack, name, "post_attention", 1.0, -0.125, True, "before", "differ")
    lines = printed(agree, differ)
    assert max(map(len, lines)) <= 80
    start = next(line for line in lines if line.startswith("verdict")).index("norm")
    column = [line[start:].strip() for line in lines[5:] if line[:1] in " cd"]
    rows = column[: len(column) // 2 * 2]
    assert "".join(rows).startswith(name + name)
    assert any("cannot tell  -" in line and "0.08944" in line and "0.089 " in line for line in lines)
    assert any("differ       post_attention" in line and "-0.125" in line for line in lines)
    assert lines[-1] == "0 norms agree, 1 differ, 1 cannot tell"


def test_norms_are_listed_under_their_stack():
    def finding(stack: str) -> Finding:
        return Finding(stack, "norm", "input", 0.0, 0.0, True, "before", "agree")

    lines = printed(finding("encoder.layers"), finding("decoder.layers"), finding("encoder.layers"))
    assert [line for line in lines if line.endswith("layers")] == ["encoder.layers", "decoder.layers"]
    assert [line.endswith("norm") for line in lines].count(True) == 2 + 3
