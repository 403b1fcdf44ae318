"""Recipes are data that fit the commands, the catalog and each other."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from vitrail.data.catalog import find
from vitrail.data.cohort import read_folder
from vitrail.data.deal import deal, write_list
from vitrail.data.manifest import read_manifest
from vitrail.errors import DataError, InputError
from vitrail.pipeline.figure import FIGURES
from vitrail.pipeline.recipe import Source, finish, prepare, show_recipe
from vitrail.records import Case
from vitrail.runfolder import write_json
from vitrail.tuning.recipes import find_recipe, recipes

NAMES = [
    "sarscov2-grid",
    "beans-deit",
    "food101-vit-vs-resnet",
    "kather6-vit",
    "ct-guided",
]


def known(recipe):
    names = ("out", "cohort", "picture", "left_out", *recipe.lists)
    return {name: name.upper() for name in names}


def test_the_five_founding_systems_are_there():
    assert [one.name for one in recipes()] == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["real", "phantom", "smoke"])
def test_every_command_is_one_of_vitrail_with_options_that_it_has(name, size, invoke):
    recipe = find_recipe(name)
    for step in recipe.commands(known(recipe), size=size):
        program, *words = shlex.split(step.run)
        assert "{" not in step.about
        if program == "cp":
            continue
        told = invoke(words[0], "--help").stdout
        options = [word for word in words if word.startswith("--")]
        assert all(option in told for option in options), (words[0], options)
        assert words[0] != "figure" or words[1] in FIGURES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_shows_its_data_fault_cost_and_commands(name):
    said = "\n".join(show_recipe(name)["summary"])
    recipe = find_recipe(name)
    assert recipe.fault in said
    assert recipe.cost in said
    assert f"vitrail recipe run {name} --data DIR" in said
    assert ("not run here" in said) == (not recipe.ours)
    if recipe.data:
        assert find(recipe.data)[0].faults[0] in said


def test_the_list_is_one_object(invoke):
    listed = json.loads(invoke("recipe", "--json").stdout)
    assert [one["name"] for one in listed["recipes"]] == NAMES


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("show", "beans"), "the nearest recipe is 'beans-deit'"),
        (("show",), "a recipe is named"),
        (("cook", "beans-deit"), "it is list, show or run"),
        (("run", "beans-deit"), "vitrail recipe show beans-deit tells how"),
        (("run", "beans-deit", "--data", "nowhere"), "nowhere"),
        (("run", "beans-deit", "--data", ".", "--phantom"), "both"),
    ],
)
def test_what_cannot_be_run_is_said(words, problem, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    done = invoke("recipe", *words)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())


@pytest.fixture
def tiles(tmp_path):
    """Draw twelve tiles of two tissues from three slides, and one class more."""
    generator = np.random.default_rng(0)
    for label in ("a", "b", "empty"):
        for number in range(12):
            name = f"CRC-Prim-HE-{number % 3 + 1:02}_{number}.png"
            path = tmp_path / "tiles" / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path / "tiles"


def test_cases_are_dealt_in_the_shares_that_were_asked_for():
    cases = [Case(case_id=f"{n}", path=f"{n}.png", label="ab"[n % 4 == 0]) for n in range(100)]
    parts = deal(cases, test=0.2, validation=0.12, by_class=True)
    for label, count in (("a", 25), ("b", 75)):
        own = [parts[case.case_id] for case in cases if case.label != label]
        assert own.count("test") == round(0.2 * len(own)), count
    assert deal(cases, test=0.2, validation=0.12) != deal(cases, test=0.2, validation=0.12, seed=1)


def test_a_list_keeps_classes_and_reads_sources(tiles, tmp_path):
    cohort = read_folder(tiles)
    path = tmp_path / "lists" / "sources.csv"
    write_list(path, cohort, classes=("a", "b"), site="(CRC-Prim-HE-[0-9]+)")
    listed = read_manifest(path)
    assert len(listed) == 24
    assert {case.site for case in listed} == {f"CRC-Prim-HE-0{n}" for n in (1, 2, 3)}
    assert not any(case.split for case in listed)
    with pytest.raises(DataError, match="names no source"):
        write_list(path, cohort, site="(Slide-[0-9]+)")
    with pytest.raises(InputError, match="regular expression"):
        write_list(path, cohort, site="(")


def test_sources_are_left_out_of_real_tiles(tiles, tmp_path):
    steps = prepare("kather6-vit", Source(data=tiles), out=tmp_path / "out")
    assert f"--manifest {tmp_path / 'out' / 'random.csv'}" in steps[0].run
    assert "--hold-out-sites" in steps[-1].run
    parts = [case.split for case in read_manifest(tmp_path / "out" / "random.csv")]
    assert parts.count("test") == 6  # .16 of 12 tiles, of three classes


def test_a_manifest_of_groups_is_taken_as_it_is(tiles, tmp_path):
    rows = [f"{p.relative_to(tiles)},{p.parent.name},{p.stem}" for p in tiles.rglob("*.png")]
    manifest = tiles / "groups.csv"
    manifest.write_text("\n".join(["path,label,group", *rows]))
    source = Source(data=tiles, manifest=manifest)
    steps = prepare("kather6-vit", source, out=tmp_path / "out")
    assert f"{tiles} --manifest {manifest}" in steps[0].run
    assert "--accept-leakage" not in steps[0].run
    assert "--folds 5" in steps[-1].run


def test_what_a_recipe_reached_stands_beside_what_was_published(tmp_path):
    reached = ["split certified", "test vit accuracy 0.780 (95 % 0.700 to 0.850), n = 97"]
    speed = "vit: 12.0 pictures a second (11.0 to 12.5 in 5 rounds; cpu, 1 threads, batches of 16)"
    steps = [
        {"command": f"vitrail run x --out {tmp_path}/vit --json", "seconds": 1, "summary": reached},
        {"command": f"vitrail compare a b --out {tmp_path}/both", "seconds": 1, "summary": [speed]},
        {"command": "cp a b", "seconds": 0, "summary": []},
    ]
    ledger = {"data": "photos", "size": "real", "manifest": "", "steps": steps}
    write_json(tmp_path / "recipe.json", ledger)
    said = finish("food101-vit-vs-resnet", out=tmp_path)["summary"]
    ours = [f"ours: vit: {reached[1]}", f"ours: both: {speed}"]
    published = [place for place, one in enumerate(said) if one.startswith("published")]
    assert said[published[-1] + 2 : published[-1] + 4] == ours
    write_json(tmp_path / "recipe.json", ledger | {"size": "phantom"})
    assert not any("ours" in one for one in finish("beans-deit", out=tmp_path)["summary"])


def test_local_weights_stand_in_for_downloaded_ones(tiles, tmp_path):
    source = Source(data=tiles, weights=tmp_path / "w.safetensors")
    steps = prepare("beans-deit", source, out=tmp_path / "out")
    assert f"--weights {tmp_path / 'w.safetensors'}" in steps[0].run
    assert "--pretrained" not in steps[0].run
