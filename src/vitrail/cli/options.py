"""Arguments and options that several commands take, each with its help."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        show_default=False,
        help="Folder of pictures: one folder a class, or train/validation/test above them. Or a "
        "MedMNIST .npz, arrays x.npy and y.npy, a Parquet file or a Hugging Face folder: their "
        "pictures are unpacked into the run folder.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="The run folder.")]
Out = Annotated[Path, typer.Option(metavar="RUN", help="The run folder to write or go on with.")]
Manifest = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="CSV with path,label[,patient,group,site,split,mask]; paths relative to the CSV. "
        "Models are also measured by its further columns, such as sex, age, scanner.",
    ),
]
PatientFrom = Annotated[
    str,
    typer.Option(
        metavar="REGEX",
        show_default=False,
        help="Reads the patient off each path: the first group is the patient, as in '(P[0-9]+)_'. "
        "Not for numbers of pages, slices or pictures.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(metavar="TIME", show_default=False, help="Time for everything: 90s, 15m, 2h."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
