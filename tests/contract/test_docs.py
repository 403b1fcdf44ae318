"""The methods table of docs/explain.md is generated from the registry; its tests exist.

Write it again with ``VITRAIL_WRITE_DOCS=1 pytest tests/contract/test_docs.py``.
"""

import inspect
import os
import re
from pathlib import Path

import pytest

from vitrail.explain import methods

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explain.md"
NEEDS = {"attention": "attention", "gradient": "gradients", "black_box": "outputs alone"}


def table():
    lines = [
        "| method | class-specific | signed | needs | passes | parameters | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, method in methods().items():
        parameters = ", ".join(f"`{key}={value!r}`" for key, value in method.parameters.items())
        cells = (
            f"`{name}`",
            "yes" if method.class_specific else "**no**",
            "yes" if method.signed else "no",
            NEEDS[method.needs],
            method.passes,
            parameters or "none",
            method.source,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_of_methods_is_the_registry():
    text = PAGE.read_text(encoding="utf-8")
    fresh = re.sub(
        r"(<!-- methods -->\n).*?(<!-- /methods -->)",
        lambda found: f"{found[1]}{table()}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )
    if os.environ.get("VITRAIL_WRITE_DOCS"):
        PAGE.write_text(fresh, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == fresh


def test_each_line_of_how_ours_differs_names_tests_that_exist():
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    part = PAGE.read_text(encoding="utf-8").split("## How ours differs")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    for line in lines:
        named = re.findall(r"`(test_\w+)`", line)
        assert named, f"no test proves: {line}"
        assert [name for name in named if f"def {name}(" not in written] == []


@pytest.mark.parametrize("method", methods())
def test_a_method_tells_its_formula_source_and_differences(method):
    text = inspect.getdoc(methods()[method].function)
    assert "Source:" in text
    assert "Args:" in text
    bibliography = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    for key in re.findall(r"\b[a-z]+20\d\d\w*", text.split("Source:")[1].split("Differs:")[0]):
        assert f"{{{key}," in bibliography, f"{key} is not in docs/references.bib"
    if method != "raw_attention":
        assert "Differs:" in text
