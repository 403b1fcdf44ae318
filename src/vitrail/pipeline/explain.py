"""``vitrail explain``: one map a case, batch by batch, as many cases as there are."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from itertools import batched
from pathlib import Path
