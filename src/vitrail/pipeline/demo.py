"""``vitrail demo``: the main job on generated chest slices whose truth is known."""

from dataclasses import dataclass
from pathlib import Path

from vitrail.data.phantom import chest_slices
from vitrail.pipeline.choices import read_plan, write_plan
from vitrail.pipeline.inspect import inspect
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.plan import plan
from vitrail.pipeline.rules import Request
from vitrail.pipeline.run import run
from vitrail.records import Progress, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json
