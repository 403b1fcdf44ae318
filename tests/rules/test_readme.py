"""The README says nothing that does not hold."""

import re
import shlex

import pytest

FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


def blocks(text, language):
    return [body for name, body in FENCE.findall(text) if name == language]


def missing_commands(text, checkout):
    """Tell which console commands name a script or verb that does not exist."""
    commands = (checkout / "src" / "vitrail" / "cli").glob("*.py")
    cli = "\n".join(module.read_text() for module in commands)
    found = []
    for line in "\n".join(blocks(text, "console")).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and words[0].startswith("scripts/"):
            found += [] if (checkout / words[0]).is_file() else [words[0]]
        elif words:
            known = words[0].endswith("vitrail") and re.search(rf"def {words[1]}\b", cli)
            found += [] if known else [line]
    return found


def broken_links(path, text):
    return [
        target
        for target in LINK.findall(text)
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]


@pytest.fixture
def readme(checkout):
    return checkout / "README.md"


def test_the_example_runs_as_it_stands(readme, capsys):
    (example,) = blocks(readme.read_text(), "python")
    assert len(example.strip().splitlines()) <= 8
    exec(compile(example, str(readme), "exec"), {})
    assert capsys.readouterr().out.strip() == "torch.Size([2, 14, 14])"


def test_every_command_exists(readme, checkout):
    assert missing_commands(readme.read_text(), checkout) == []


def test_a_missing_command_is_found(checkout):
    text = "```console\n$ scripts/none\n$ vitrail nothing\n$ scripts/test\n```"
    assert missing_commands(text, checkout) == ["scripts/none", "$ vitrail nothing"]


def test_every_linked_file_and_picture_exists(readme):
    assert broken_links(readme, readme.read_text()) == []


def test_a_broken_link_is_found(readme):
    assert broken_links(readme, "[a](src/none.py) [b](README.md#x) [c](https://x.org)") == [
        "src/none.py"
    ]


def test_it_fits_one_screen_and_says_what_vitrail_is_not(readme):
    text = readme.read_text()
    assert len(text.splitlines()) <= 70
    assert "Not a medical device" in text


def test_every_script_is_three_to_ten_lines_and_runnable(checkout):
    for name in ("setup", "demo", "test", "check", "fix", "bench", "docs"):
        script = checkout / "scripts" / name
        code = [line for line in script.read_text().splitlines() if line and line[0] != "#"]
        assert len(code) <= 10, name
        assert script.stat().st_mode & 0o100, name
