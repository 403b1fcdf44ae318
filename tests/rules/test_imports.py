"""Who may import whom, and where a library has its home."""

import ast
import os
import shutil
import subprocess
import sys

import pytest

HOMES = {
    "SimpleITK": {"data"},
    "pydicom": {"data"},
    "threadpoolctl": {"data"},
    "pyarrow": {"data"},  # with an extra: loaded by data.extras
    "pooch": {"data"},
    "urllib3": {"data.remote"},
    "PIL": {"data", "report", "pipeline"},  # pictures are read, drawn, and copied into the run
    "timm": {"models", "data.augment", "training"},
    "transformers": {"models.zoo"},
    "accelerate": {"training", "pipeline"},
    "peft": {"training.lora"},
    "psutil": {"training.memory"},
    "optuna": {"tuning"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "anyio": {"web"},
    "typer": {"cli", "terminal"},
    "rich": {"terminal"},
    "captum": set(),  # the peers serve tests and benchmarks only
    "pytorch_grad_cam": set(),
    "pandas": set(),
}


def imported(tree):
    """Yield each import statement of a tree with the dotted names it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield node, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            yield node, [node.module or "."]


def strangers(module):
    """Tell which libraries a module imports that have their home elsewhere."""
    room = module.name.removeprefix("vitrail.")
    return [
        f"{module.name}:{node.lineno} imports {library}, whose home is {sorted(HOMES[library])}"
        for node, names in imported(module.tree)
        for library in {name.partition(".")[0] for name in names} & HOMES.keys()
        if not any(f"{room}.".startswith(f"{home}.") for home in HOMES[library])
    ]


def hidden(module):
    """Tell which imports stand elsewhere than at a module's top, and every TYPE_CHECKING."""
    top = {node for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    deep = [node for node, _ in imported(module.tree) if node not in top]
    if module.name.startswith("vitrail.cli"):  # its commands import the pipeline when called
        deep = []
    names = [
        node
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING")
        or (isinstance(node, ast.alias) and node.name == "TYPE_CHECKING")
        or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    ]
    return [f"{module.name}:{node.lineno}" for node in (*deep, *names)]


def test_a_library_is_imported_in_its_home_only(module):
    assert strangers(module) == []


def test_a_library_away_from_home_is_found(sample):
    bad = sample("import timm.models\nfrom PIL import Image\n", name="vitrail.metrics.roc")
    assert len(strangers(bad)) == 2
    assert strangers(sample("import timm\n", name="vitrail.data.augmented"))
    assert not strangers(sample("import timm\n", name="vitrail.data.augment"))


def test_no_import_is_hidden_in_a_function_or_under_a_condition(module):
    assert hidden(module) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import json\n",
        "if True:\n    from json import loads\n",
        "from typing import TYPE_CHECKING\n",
        "import typing\nif typing.TYPE_CHECKING:\n    pass\n",
    ],
)
def test_a_hidden_import_is_found(sample, text):
    assert hidden(sample(text))


def lint_imports(folder, *, source):
    """Run import-linter on a source tree; return its exit status and output."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as f; f()"]
    environment = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"}
    command.append("--no-cache")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_every_import_contract_is_kept(checkout):
    status, output = lint_imports(checkout, source=checkout / "src")
    assert status == 0, output


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("errors.py", "import vitrail.cli"),
        ("metrics/__init__.py", "import vitrail.models"),
        ("metrics/__init__.py", "import torch"),
        ("explain/__init__.py", "import timm"),
        ("unknown_room.py", "import vitrail.errors"),
    ],
)
def test_a_broken_import_contract_is_found(checkout, tmp_path, file, line):
    shutil.copytree(checkout / "src", tmp_path / "src")
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "vitrail" / file).open("a") as stream:
        stream.write(f"\n{line}\n")
    status, output = lint_imports(tmp_path, source=tmp_path / "src")
    assert status == 1, output


def run_fresh(code):
    """Run Python in a fresh process; return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_rebuilds_a_report_runs_without_torch(modules):
    light = ("records", "color", "runfolder", "errors", "metrics", "evaluation", "report")
    names = [m.name for m in modules if m.name.removeprefix("vitrail.").split(".")[0] in light]
    assert len(names) >= len(light)
    assert run_fresh(f"import {', '.join(names)}, sys; print('torch' in sys.modules)") == "False"
