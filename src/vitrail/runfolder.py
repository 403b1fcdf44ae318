"""Where everything of one run lies, and writing that leaves nothing half done.

::

    run1/
      plan.yaml  cohort.csv  split.csv  audit.json  environment.json
      data/                                     pictures out of an array or data set file
      external/                                 the same, of sources that were evaluated on
      cache/                                    decoded pictures; may be deleted at any time
      models/<name>/seed<k>/fold<k>/   model.safetensors  model.json  checkpoints/  log.jsonl
      predictions.csv
      evaluation.json
      faithfulness.json
      explanations/<case>.npz, <case>.json      (another method than the run's: a folder below)
      augmentation/<preset>.png           what each preset makes of training pictures
      features/<backbone>/<pictures>.npy  (a cache)
      pictures/<case>.png, <case>.mask.png      the pictures that the report shows
      mosaic.png                                one picture of each class, cut into patches
      report.html

The run folder is the whole truth: any stage can be repeated from it.
"""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedRandom
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from vitrail.errors import RunFolderError

_LONGEST_NAME = 160


def file_name(case_id: str) -> str:
    """Turn a case's id into a file name that any system accepts, one to one.

    Example:
        >>> file_name("COVID/Covid (1)")
        'COVID%2FCovid (1)'
    """
    name = quote(case_id, safe=" ()+,=@[]")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 17]}-{sha256(case_id.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run.

    Attributes:
        root: The run's folder; it need not exist yet.
    """

    root: Path

    @property
    def plan(self) -> Path:
        """Every choice with its reason; a person edits it."""
        return self.root / "plan.yaml"

    @property
    def cohort(self) -> Path:
        """The cases."""
        return self.root / "cohort.csv"

    @property
    def data(self) -> Path:
        """Folder of the pictures that were unpacked from an array or data set file."""
        return self.root / "data"

    @property
    def external(self) -> Path:
        """Folder of the pictures that were unpacked from other sources to be evaluated on."""
        return self.root / "external"

    @property
    def cache(self) -> Path:
        """Folder of decoded pictures; it may be deleted at any time."""
        return self.root / "cache"

    @property
    def split(self) -> Path:
        """The part of the split that each case is in."""
        return self.root / "split.csv"

    @property
    def audit(self) -> Path:
        """What ``inspect`` found."""
        return self.root / "audit.json"

    @property
    def mosaic(self) -> Path:
        """One picture of each class, cut into the patches that a transformer would see."""
        return self.root / "mosaic.png"

    @property
    def faithfulness(self) -> Path:
        """Which explanation can be trusted on this model, tested."""
        return self.root / "faithfulness.json"

    @property
    def environment(self) -> Path:
        """Versions, machine and exact command."""
        return self.root / "environment.json"

    @property
    def predictions(self) -> Path:
        """Probabilities of every model for every validation and test case."""
        return self.root / "predictions.csv"

    @property
    def evaluation(self) -> Path:
        """Every metric with its interval."""
        return self.root / "evaluation.json"

    @property
    def tuning(self) -> Path:
        """What was tried before this configuration was chosen; absent where nothing was."""
        return self.root / "tuning" / "study.json"

    @property
    def report(self) -> Path:
        """The one page."""
        return self.root / "report.html"

    @property
    def explanations(self) -> Path:
        """Folder of the maps."""
        return self.root / "explanations"

    @property
    def features(self) -> Path:
        """Folder of what frozen backbones said of the pictures; it may be deleted at any time."""
        return self.root / "features"

    @property
    def pictures(self) -> Path:
        """Folder of the pictures that the report shows."""
        return self.root / "pictures"

    def model(self, name: str, *, seed: int = 0, fold: int = 0) -> Path:
        """Return the folder of one trained model."""
        return self.root / "models" / name / f"seed{seed}" / f"fold{fold}"

    def augmentation(self, kind: str) -> Path:
        """Return the ``.png`` that shows what a preset makes of training pictures."""
        return self.root / "augmentation" / f"{kind}.png"

    def explanation(self, case_id: str, *, method: str | None = None) -> Path:
        """Return the ``.npz`` of a case's map; ``method`` names one other than the run's own."""
        folder = self.explanations if method is None else self.explanations / method
        return folder / f"{file_name(case_id)}.npz"

    def picture(self, case_id: str) -> Path:
        """Return the ``.png`` of a case as the report shows it."""
        return self.pictures / f"{file_name(case_id)}.png"

    def mask(self, case_id: str) -> Path:
        """Return the ``.png`` of a case's mask, where it has one: white is inside."""
        return self.pictures / f"{file_name(case_id)}.mask.png"

    def require(self, path: Path, verb: str) -> Path:
        """Return ``path`` if it exists.

        Raises:
            RunFolderError: If it does not; the message names the verb that writes it.
        """
        if not path.exists():
            name = path.relative_to(self.root)
            raise RunFolderError(
                str(self.root),
                f"it holds no {name}",
                f"this stage reads {name}",
                f"run `vitrail {verb}` on it first",
            )
        return path


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed, then renamed.

    Args:
        path: The file.
        content: All of it.
        durable: Whether it has to outlive a loss of power in the next seconds.
    """

    def write(stream: BufferedRandom) -> str:
        stream.write(content)
        return path.name

    write_stream(path.parent, write, durable=durable)


def write_stream(
    folder: Path, write: Callable[[BufferedRandom], str], *, durable: bool = True
) -> None:
    """Write a file whole or not at all whose content need not fit into memory a second time.

    Args:
        folder: Where; it is made if need be.
        write: Writes the content, which it may read back, and returns the name of the file.
        durable: Whether it has to outlive a loss of power in the next seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".writing-")
    try:
        with os.fdopen(handle, "w+b") as stream:
            name = write(stream)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(folder / name)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its name only when it is whole.

    What an earlier, killed writing left is removed; so one process at a time writes a folder.

    Args:
        path: The name that it takes; nothing may be there.

    Yields:
        A folder beside it.
    """
    unfinished = path.with_name(f".writing-{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a folder; the end of this one, a kill too, frees it.

    Raises:
        RunFolderError: If another one is working in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunFolderError(
            str(folder),
            "another process is working in it",
            "one command at a time writes a folder",
            "wait until it ends, or stop it; then run the same command again",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _umask() -> int:
    """Return the process's file mode mask (the system only tells it by setting it)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """Write JSON, keys in their given order, NaN refused."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        RunFolderError: If the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(
            str(path), f"not JSON ({error})", "vitrail writes it whole", "repeat the stage"
        ) from error


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], *, header: Sequence[str]) -> None:
    """Write a table whole or not at all."""
    with tempfile.SpooledTemporaryFile(mode="w+", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=header, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        stream.seek(0)
        write_text(path, stream.read())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table; a byte-order mark is dropped, missing cells are empty."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return [{key: value or "" for key, value in row.items()} for row in csv.DictReader(stream)]
