"""vitrail trains Vision Transformers on medical pictures and shows what they look at.

The package's rooms, from the ground up (a module imports only what lies below it):

========================  ==========================================================
``errors``                the exception tree
``records``, ``color``    what crosses the stages; what a map's value looks like
``runfolder``             where everything of one run lies, and atomic writing
``data models metrics``   files become cases; architectures and weights; numbers
``explain``               attention and attribution maps of any Vision Transformer
``training evaluation``   one loop; predictions become numbers with intervals
``report``                the run folder becomes one page
``pipeline``              one module a verb: run folder in, run folder out
``terminal``              what a running command shows: bars, messages, the result
``cli``                   the command line
========================  ==========================================================

Nothing is imported here, so that ``import vitrail`` is cheap and ``vitrail.explain``
does not drag the rest in.
"""

__version__ = "0.1.0.dev0"
