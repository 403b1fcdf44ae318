"""The process that decodes one PNG, JPEG, TIFF or BMP: ``python -m vitrail.web.decode_raster``."""

import sys

from vitrail.data.raster import read_stored
from vitrail.web.limits import answer

if __name__ == "__main__":
    sys.exit(answer(lambda path: (read_stored(path)[None], {}), sys.argv[1:]))
