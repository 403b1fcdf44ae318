import numpy as np
import pytest

from vitrail.errors import RunFolderError
from vitrail.pipeline.ledger import require_own_folder
from vitrail.pipeline.source import read_source
from vitrail.runfolder import RunFolder


@pytest.fixture
def source(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, size=(8, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "tiles.npz", images=pixels, labels=np.arange(8) % 2)
    return tmp_path / "tiles.npz"


def test_a_file_of_pictures_is_unpacked_once(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    first = read_source(run.data, source)
    picture = run.data / first.cases[0].path
    written = picture.stat().st_mtime_ns
    require_own_folder(run)
    assert read_source(run.data, source) == first
    assert picture.stat().st_mtime_ns == written


def test_another_file_into_the_same_run_is_refused(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    read_source(run.data, source)
    np.savez(source, images=np.ones((8, 16, 16), np.uint8), labels=np.arange(8) % 2)
    with pytest.raises(RunFolderError, match=r"the pictures of tiles\.npz, not those of"):
        read_source(run.data, source)


def test_what_a_killed_unpacking_left_is_no_obstacle(source, tmp_path):
    run = RunFolder(tmp_path / "run")
    (run.root / ".writing-data" / "pictures").mkdir(parents=True)
    require_own_folder(run)
    assert len(read_source(run.data, source)) == 8
    assert [path.name for path in run.root.iterdir()] == ["data"]
