"""Every example in a docstring and in the documentation is executed, shapes checked."""

import doctest
import importlib

import pytest

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def failures(test):
    """Run one doctest; return the report of what failed."""
    report = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    return "".join(report)


def test_the_examples_of_a_module_hold(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tests = doctest.DocTestFinder().find(importlib.import_module(module.name))
    assert "".join(failures(test) for test in tests if test.examples) == ""


def test_the_examples_of_the_documentation_hold(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for page in sorted((checkout / "docs").rglob("*.md")):
        test = doctest.DocTestParser().get_doctest(page.read_text(), {}, page.name, str(page), 0)
        assert failures(test) == ""


@pytest.mark.parametrize("text", [">>> 1 + 1\n3\n", ">>> undefined\n1\n"])
def test_a_wrong_example_is_found(text):
    assert failures(doctest.DocTestParser().get_doctest(text, {}, "bad", None, 0))
