"""Words and calls that must not stand in the project's files."""

import ast
import re

import pytest

CATCH_ALL = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
# Spelled in two parts, so that this file does not break its own rule.
MACHINE = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "home/[a-z]"]))
INDEX = re.compile(
    "(?:https?|file)://[^\\s\"']*(?:" + "pypi" + "|/simple\\b)|--(?:extra-)?" + "index-url"
)
TEXT = {".py", ".md", ".toml", ".txt", ".bib", ".html", ".css", ".js", ".json", ".yaml", ".csv", ""}


def addresses(text):
    """Find machine paths and package index addresses."""
    return [match.group() for rule in (MACHINE, INDEX) for match in rule.finditer(text)]


def unsafe_loads(module):
    """Find pickle, and torch.load that could run what a file says."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}
            source = {getattr(node, "module", None)} if names != {"UnpicklingError"} else set()
            if (names | source) & {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}:
                found.append(f"{module.name}:{node.lineno} imports a pickle")
        if not isinstance(node, ast.Call):
            continue
        options = {option.arg: option.value for option in node.keywords}
        called = ast.unparse(node.func)
        if called == "torch.load" and not is_true(options.get("weights_only")):
            found.append(f"{module.name}:{node.lineno} torch.load without weights_only=True")
        allowed = ast.unparse(options.get("allow_pickle", ast.Constant(value=False))) != "False"
        if called in {"np.load", "numpy.load"} and allowed:
            found.append(f"{module.name}:{node.lineno} np.load with allow_pickle")
    return found


def is_true(node):
    return isinstance(node, ast.Constant) and node.value is True


def test_no_module_is_a_catch_all(modules):
    assert [m.name for m in modules if CATCH_ALL & set(m.name.strip("_").split("."))] == []


def test_no_file_names_a_machine_path_or_a_package_index(tracked, checkout):
    found = {}
    for path in tracked:
        if path.suffix in TEXT and path.stat().st_size < 1_000_000:
            words = addresses(path.read_text(encoding="utf-8", errors="replace"))
            found |= {str(path.relative_to(checkout)): words} if words else {}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "root = '/" + "work/shared'",
        "pip install --" + "index-url x",
        "see https://mirror/" + "simple/torch",
        "cd /" + "home/ann",
    ],
)
def test_a_machine_path_or_package_index_is_found(text):
    assert addresses(text)


def test_nothing_is_loaded_that_could_run_code(module):
    assert unsafe_loads(module) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\n",
        "from pickle import loads\n",
        "torch.load(path)\n",
        "torch.load(path, weights_only=False)\n",
        "np.load(path, allow_pickle=True)\n",
    ],
)
def test_a_load_that_could_run_code_is_found(sample, text):
    assert unsafe_loads(sample(text))


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path, weights_only=True)\n",
        "np.load(path, allow_pickle=False)\n",
        "from pickle import UnpicklingError\n",
    ],
)
def test_a_load_that_runs_nothing_is_allowed(sample, text):
    assert not unsafe_loads(sample(text))
