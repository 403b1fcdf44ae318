"""``python -m vitrail``, for launchers that start a module: ``torchrun -m vitrail train RUN``."""

from vitrail.cli import main

if __name__ == "__main__":
    main()
