"""``vitrail fetch``: public data sets, their licence, size and known faults before anything."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from vitrail.data.catalog import Card, RemoteFile, cards, find
from vitrail.data.extras import load
from vitrail.data.fetch import Fetched, download, extract, is_archive
from vitrail.data.raster import SUFFIXES
from vitrail.errors import DataError, InputError
from vitrail.pipeline.ledger import Result
from vitrail.records import Progress, no_progress
from vitrail.runfolder import read_json, write_csv, write_json

Confirm = Callable[[Sequence[str]], bool]
"""Shows sentences and asks whether to go on."""

ABOUT = "fetched.json"
_HUB = "hf:"
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def list_sets() -> Result:
    """List the catalog."""
    rows = [
        {"name": card.name, "title": card.title, "cases": card.cases, "licence": card.licence}
        for card in cards()
    ]
    said = [f"{row['name']:<16} {row['title']}" for row in rows]
    said.append("`vitrail fetch show NAME` tells licence, size, variants and known faults")
    return {"sets": rows, "summary": said}


def show_set(name: str) -> Result:
    """Show one card."""
    card, variant = find(name)
    return {"card": card.model_dump(mode="json"), "summary": _sentences(card, variant)}


def fetch(
    name: str,
    *,
    to: Path | None = None,
    confirm: Confirm,
    progress: Progress = no_progress,
) -> Result:
    """Fetch a set into a folder.

    Args:
        name: Of a card, with its variant (``pathmnist_64``); or ``hf:OWNER/NAME``, a data set of
            the Hugging Face hub.
        to: The folder; by default one of the set's name, here.
        confirm: Is shown licence, size and faults, and says whether to go on.
        progress: Told of what comes.

    Raises:
        DataError: If it cannot be downloaded; what came is kept and gone on with.
        InputError: If there is no such set, it needs an account, or the user does not want it.
        MissingExtraError: If the extra ``fetch`` is not installed.
    """
    if name.startswith(_HUB):
        return _fetch_hub(name.removeprefix(_HUB), to=to, confirm=confirm)
    card, variant = find(name)
    return fetch_card(card, variant, to=to or Path(name), confirm=confirm, progress=progress)


def fetch_card(
    card: Card, variant: str = "", *, to: Path, confirm: Confirm, progress: Progress = no_progress
) -> Result:
    """Fetch the set of a card; see :func:`fetch`."""
    if not card.files:
        rule = "it cannot be downloaded without you"
        raise InputError(card.name, card.title, rule, f"{card.account} ({card.homepage})")
    came = _there(to, card)
    due = [file for file in card.variant(variant) if file.name not in {one.name for one in came}]
    if due:
        _agree(confirm, _sentences(card, variant))
    about: dict[str, Any] = card.model_dump(include={"name", "title", "licence", "citation"})
    about["faults"] = list(card.faults)
    for file in due:
        came.append(_fetch_file(file, to, progress))
        about["files"] = [asdict(one) for one in came]
        about["fetched"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(to / ABOUT, about)
    source = to / card.run if card.run else to
    if not any(is_archive(Path(file.name)) for file in came):
        source = to / card.variant(variant)[0].name
    options = f" --patient-from '{card.patient_from}'" if card.patient_from else ""
    if card.lists:
        options += f" --manifest '{_write_manifest(card, to)}'"
    said = [_verdict(file) for file in came]
    said.append(f"next: vitrail run '{source}' --out run1{options}")
    return {**about, "folder": str(to), "source": str(source), "summary": said}


def _write_manifest(card: Card, to: Path) -> Path:
    """Write the parts that a set states in lists as a manifest beside its pictures."""
    folder = to / card.run
    rows = []
    for part, name in card.lists.items():
        for line in (to / name).read_text(encoding="utf-8").split():
            pictures = [f"{line}{ending}" for ending in SUFFIXES]
            path = next((one for one in pictures if (folder / one).is_file()), "")
            if not path:
                rule = "every picture of a list is there"
                raise DataError(str(to / name), f"no picture {line}", rule, "fetch the set again")
            rows.append({"path": path, "label": line.partition("/")[0], "split": part})
    write_csv(folder / "manifest.csv", rows, header=("path", "label", "split"))
    return folder / "manifest.csv"


def _there(to: Path, card: Card) -> list[Fetched]:
    """List the files of a set that an earlier call fetched into a folder."""
    if not (to / ABOUT).exists():
        return []
    about = cast("Mapping[str, Any]", read_json(to / ABOUT))
    files = about.get("files", ()) if about.get("name") == card.name else ()
    return [Fetched(**one) for one in files]


def _agree(confirm: Confirm, said: Sequence[str]) -> None:
    """Go on only if the user wants to."""
    if not confirm(said):
        raise InputError(
            "--yes", "not confirmed", "nothing is downloaded unasked", "pass --yes to go on"
        )


def _fetch_file(file: RemoteFile, to: Path, progress: Progress) -> Fetched:
    """Download a file, and put what an archive holds in its place."""
    came = download(file, to, progress=progress)
    path = to / file.name
    if is_archive(path):
        unpacked = to / ".unpacked"
        extract(path, unpacked)
        for one in sorted(unpacked.iterdir()):
            if (to / one.name).exists():
                remedy = "move it away, or pass another --to"
                raise DataError(str(to / one.name), "it is there", "nothing is replaced", remedy)
            one.rename(to / one.name)
        unpacked.rmdir()
        path.unlink()
    return came


def _verdict(file: Fetched) -> str:
    """Say how far a file can be trusted."""
    if file.verified:
        return f"{file.name}: the checksum is the published one"
    return f"{file.name}: not verified, for no checksum is published; sha256 {file.sha256}"


def _sentences(card: Card, variant: str) -> list[str]:
    """Say everything that has to be known before a download."""
    said = [card.title, f"licence: {card.licence}", f"source: {card.homepage}"]
    said.append(f"{card.cases} pictures{f'; given split: {card.split}' if card.split else ''}")
    if card.files:
        sizes = [file.bytes for file in card.variant(variant)]
        known = [size for size in sizes if size is not None]
        size = _size(sum(known)) if len(known) == len(sizes) else "unknown before the download"
        said.append(f"download: {len(sizes)} file{'s' * (len(sizes) > 1)}, {size}")
    variants = list(dict.fromkeys(file.variant for file in card.files if file.variant))
    if variants:
        others = ", ".join(f"{card.name}_{one}" for one in variants[1:])
        said.append(f"this is {card.name} at {variant or variants[0]} px; others: {others}")
    if card.account:
        said.append(f"how to get it: {card.account}")
    said += [f"known fault: {fault}" for fault in card.faults]
    return [*said, f"cite: {card.citation}"]


def _size(count: int) -> str:
    """Write a number of bytes.

    Example:
        >>> _size(258098431)
        '246.1 MiB'
    """
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def _fetch_hub(repository: str, *, to: Path | None, confirm: Confirm) -> Result:
    """Fetch a data set of the Hugging Face hub through its own library."""
    hub = load("huggingface_hub", extra="fetch", wanted_for="the Hugging Face hub")
    folder = to or Path(repository.rpartition("/")[2])
    try:
        about = hub.HfApi().dataset_info(repository, files_metadata=True)
        stated: Mapping[str, Any] = about.card_data.to_dict() if about.card_data else {}
        sizes = [file.size for file in about.siblings]
        size = _size(sum(sizes)) if all(isinstance(one, int) for one in sizes) else "unknown"
        licence = str(stated.get("license", "unknown"))
        said = [f"{repository} on the Hugging Face hub", f"licence: {licence}", f"size: {size}"]
        said.append("it has no card here: its faults are unknown")
        _agree(confirm, said)
        hub.snapshot_download(
            repository, repo_type="dataset", revision=about.sha, local_dir=str(folder)
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        came = str(error).splitlines()[0]
        remedy = "check the name, log in with `hf auth login` if it is private, and repeat"
        raise DataError(repository, came, "the hub has to give it", remedy) from error
    found = {"name": repository, "licence": licence, "revision": about.sha, "folder": str(folder)}
    write_json(folder / ABOUT, found)
    return {**found, "summary": [f"next: vitrail run '{folder}' --out run1"]}
