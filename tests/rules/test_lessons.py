"""Every lesson runs as it stands and prints what its page shows.

``VITRAIL_WRITE_DOCS=1 pytest tests/rules/test_lessons.py`` writes the outputs into the pages.
"""

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).parents[2] / "docs" / "lessons").glob("[0-9]-*.md"))
BLOCK = re.compile(r"```python\n(.*?)```\n```text\n(.*?)```\n", re.DOTALL)


def run(page):
    """Run a page's blocks in order; return the page with what they printed."""
    names = {"__name__": "lesson"}

    def printed(block):
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(block[1], page.name, "exec"), names)
        return f"```python\n{block[1]}```\n```text\n{out.getvalue()}```\n"

    return BLOCK.sub(printed, page.read_text())


@pytest.mark.parametrize("page", LESSONS, ids=lambda page: page.stem)
def test_a_lesson_prints_what_its_page_shows(page):
    ran = run(page)
    if os.environ.get("VITRAIL_WRITE_DOCS"):
        page.write_text(ran)
    assert ran == page.read_text()


def test_every_block_of_a_lesson_has_an_output():
    for page in LESSONS:
        text = page.read_text()
        assert len(BLOCK.findall(text)) == text.count("```python") > 0, page.name


def test_a_changed_output_is_found(tmp_path):
    page = tmp_path / "1-sum.md"
    page.write_text("```python\nprint(1 + 1)\n```\n```text\n3\n```\n")
    assert "```text\n2\n```" in run(page)
