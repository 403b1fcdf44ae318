"""The errors that vitrail raises on purpose.

::

    VitrailError (Exception)
    ├── InputError (ValueError)            an argument, option or value cannot be used
    │   ├── PlanError                      plan.yaml says something impossible or unknown
    │   ├── MethodError                    an explanation method cannot serve this model or call
    │   └── AnatomyError                   a model's tokens, grid or read-out cannot be determined
    ├── DataError (ValueError)             files, folders and tables that cannot be used
    │   ├── UnreadableFileError            one file cannot be decoded
    │   ├── ManifestError                  a manifest's column, row or path is wrong
    │   └── LeakageError                   cases that belong together are on both sides of a split
    ├── RunFolderError (OSError)           a run folder lacks something or is another plan's
    ├── CaptureError (RuntimeError)        a forward pass could not be recorded
    ├── TrainingError (RuntimeError)       training cannot go on
    │   └── StoppedError                   a signal stopped it; the argument is the signal's name
    ├── NumericalError (ArithmeticError)   NaN or infinity where a number is needed
    └── MissingExtraError (ImportError)    an optional library is not installed

Every message has the same four parts: the argument (or file), what came, the rule, the remedy.
The command line prints it alone, without a traceback, and exits with status 2; where a signal
stopped it, with 128 and the signal's number.
"""


class VitrailError(Exception):
    """Base of every error that vitrail raises on purpose.

    Args:
        argument: Name of the argument, option, file or table cell at fault.
        came: What was found there.
        rule: What has to hold.
        remedy: What the reader can do about it.

    Example:
        >>> print(InputError("batch_size", "0", "it must be at least 1", "pass --batch-size 16"))
        batch_size: 0; it must be at least 1; pass --batch-size 16
    """

    def __init__(self, argument: str, came: str, rule: str, remedy: str) -> None:  # noqa: PLR0917
        self.argument = argument
        self.came = came
        self.rule = rule
        self.remedy = remedy
        super().__init__(f"{argument}: {came}; {rule}; {remedy}")

    def __reduce__(self) -> tuple[type["VitrailError"], tuple[str, str, str, str]]:
        """Pickle by the four parts, so that an error survives a worker process."""
        return type(self), (self.argument, self.came, self.rule, self.remedy)


class InputError(VitrailError, ValueError):
    """An argument, option or value cannot be used."""


class PlanError(InputError):
    """``plan.yaml`` says something impossible or unknown."""


class MethodError(InputError):
    """An explanation method cannot serve this model or this call."""


class AnatomyError(InputError):
    """A model's prefix tokens, patch grid or read-out cannot be determined."""


class DataError(VitrailError, ValueError):
    """Files, folders and tables that cannot be used."""


class UnreadableFileError(DataError):
    """One file cannot be decoded."""


class ManifestError(DataError):
    """A manifest's column, row or path is wrong."""


class LeakageError(DataError):
    """Cases that belong together stand on both sides of a split."""


class RunFolderError(VitrailError, OSError):
    """A run folder is missing something or belongs to another plan."""

    def __str__(self) -> str:
        """Return the message (``OSError`` would print the parts as errno and strerror)."""
        return f"{self.argument}: {self.came}; {self.rule}; {self.remedy}"


class CaptureError(VitrailError, RuntimeError):
    """A forward pass could not be recorded."""


class TrainingError(VitrailError, RuntimeError):
    """Training cannot go on."""


class StoppedError(TrainingError):
    """A signal stopped a training; ``argument`` is the signal's name."""


class NumericalError(VitrailError, ArithmeticError):
    """NaN or infinity came where a number is needed."""


class MissingExtraError(VitrailError, ImportError):
    """An optional library is not installed."""
