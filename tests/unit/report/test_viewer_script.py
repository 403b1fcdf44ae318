"""The modules become one script without changing what they mean."""

import re
import shutil
import subprocess

import pytest

from vitrail.report.viewer.script import fingerprint, modules, script

TOP = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)
LONGEST = 350


@pytest.mark.parametrize("entry", ["disk"])
def test_the_joined_script_has_no_import_and_no_export_left(entry):
    assert not re.search(r"^(import|export) (?!\{\};)", script(entry), re.MULTILINE)


def test_no_two_modules_use_the_same_name_at_their_top():
    names = [name for text in modules().values() for name in TOP.findall(text)]
    assert sorted(names) == sorted(set(names))


def test_every_imported_name_is_exported_where_it_is_looked_for():
    for name, text in modules().items():
        for names, source in re.findall(r'^import \{([^}]*)\} from "\./(\w+)\.js";', text, re.M):
            for one in map(str.strip, names.split(",")):
                pattern = rf"^export (async )?(function|const|class) {one}\b"
                assert re.search(pattern, modules()[source], re.M), f"{name}: {one}"


def test_every_module_is_short():
    lines = {name: len(text.splitlines()) for name, text in modules().items()}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_nothing_is_asked_of_a_network_by_the_page_on_disk():
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|WebSocket|EventSource", script("disk"))


def test_the_script_is_a_module_that_runs(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (needed by developers of the viewer only)")
    path = tmp_path / "all.mjs"
    path.write_text(script("disk"), encoding="utf-8")
    done = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_fingerprint_is_the_browsers():
    assert fingerprint("") == "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
