"""The documentation is complete, its links and sources lead somewhere, exports are listed."""

import ast
import importlib
import inspect
import re

FENCED = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)")
SOURCE = re.compile(r"Source:((?:.*\n?)(?:[ ]{8,}.*\n?)*)")
KEY = re.compile(r"\b[a-z][a-z_-]*(?:19|20)\d\d[a-z_]*\b")


def undocumented(module):
    """Tell which public modules, classes and functions say nothing of themselves."""
    found = [] if ast.get_docstring(module.tree) else [module.name]
    pending = [(module.name, module.tree)]
    while pending:
        owner, tree = pending.pop()
        for node in tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and "overload" not in map(
                ast.unparse, node.decorator_list
            ):
                found.append(f"{owner}.{node.name}")
            if isinstance(node, ast.ClassDef):
                pending.append((f"{owner}.{node.name}", node))
    return found


def stale_arguments(module):
    """Tell which names an ``Args:`` section explains that the function does not take."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", ast.get_docstring(node) or "", re.M)
        told = (
            set(re.findall(r"^    \*{0,2}(\w+)(?: \(.*\))?:", section[1], re.M))
            if section
            else set()
        )
        taken = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        found += [f"{module.name}.{node.name}: {name}" for name in sorted(told - taken)]
    return found


def unknown_sources(module, bibliography):
    """Tell which ``Source:`` keys are not in the bibliography."""
    known = set(re.findall(r"@\w+\{([^,\s]+),", bibliography))
    used = {key for text in SOURCE.findall(module.text) for key in KEY.findall(text)}
    return sorted(used - known)


def told_twice(bibliography):
    """Tell which entries of the bibliography share a title or a key."""
    entries = re.findall(r"@\w+\{([^,\s]+),.*?\btitle\s*=\s*(.+?),?\n", bibliography, re.S)
    plain = [re.sub(r"[^a-z0-9]", "", title.lower()) for _, title in entries]
    keys = [key for key, _ in entries]
    return [
        key
        for key, title in zip(keys, plain, strict=True)
        if plain.count(title) > 1 or keys.count(key) > 1
    ]


def unlisted(module, listed, names):
    """Tell how a package's export list differs from its public names."""
    public = {
        name
        for name, value in names.items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", module.name).startswith("vitrail")
    }
    return sorted(public ^ set(listed))


def test_everything_public_is_documented(module):
    assert undocumented(module) == []


def test_what_is_not_documented_is_found(sample):
    bad = sample("class A:\n    def f(self): ...\n\ndef g(): ...\n\ndef _h(): ...\n")
    assert len(undocumented(bad)) == 4


def test_an_args_section_names_only_what_the_function_takes(module):
    assert stale_arguments(module) == []


def test_a_stale_argument_is_found(sample):
    text = 'def f(a):\n    """Do.\n\n    Args:\n        a: One.\n        b: Gone.\n    """\n'
    assert stale_arguments(sample(text)) == ["vitrail.sample.f: b"]


def test_every_source_is_in_the_bibliography(module, checkout):
    assert unknown_sources(module, (checkout / "docs" / "references.bib").read_text()) == []


def test_an_unknown_source_is_found(sample):
    text = '"""Do.\n\n    Source:\n        nobody2020, eq. 1; known2021\n"""\n'
    assert unknown_sources(sample(text), "@article{known2021,\n}") == ["nobody2020"]


def test_every_paper_has_one_key(checkout):
    bibliography = (checkout / "docs" / "references.bib").read_text()
    assert told_twice(bibliography) == []
    entries, titles = (re.findall(sign, bibliography, re.M) for sign in (r"^@", r"^\s*title\s*="))
    assert len(entries) == len(titles)


def test_a_paper_told_twice_is_found():
    entry = "@article{%s,\n  author = {A},\n  title = %s,\n}\n"
    texts = [
        entry % ("a2020", "{One {T}hing}"),
        entry % ("a2020one", "{One thing}"),
        entry % ("b2021", '"Other"'),
    ]
    assert told_twice("".join(texts)) == ["a2020", "a2020one"]


def test_every_export_list_is_complete(module):
    loaded = importlib.import_module(module.name)
    listed = getattr(loaded, "__all__", None)
    if listed is not None:
        names = vars(loaded)
        assert sorted(set(listed) - names.keys()) == []
        if module.path.name == "__init__.py":
            assert unlisted(module, listed, names) == []


def test_an_incomplete_export_list_is_found(sample):
    assert unlisted(sample(""), ["a"], {"a": 1, "b": 2, "_c": 3}) == ["b"]


def test_every_link_of_the_documentation_leads_to_a_file(checkout):
    pages = [*(checkout / "docs").rglob("*.md"), *checkout.glob("*.md")]
    assert broken(pages) == []


def broken(pages):
    return [
        f"{page.name}: {target}"
        for page in pages
        for target in LINK.findall(FENCED.sub("", page.read_text()))
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]


def test_a_link_to_nowhere_is_found(tmp_path):
    (tmp_path / "page.md").write_text("[a](none.md) [b](page.md#top) [c](https://example.org)")
    assert broken([tmp_path / "page.md"]) == ["page.md: none.md"]
