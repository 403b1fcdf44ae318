"""The same work on many items: several at once, results in order, a bounded number under way.

Threads, not processes: most of the time goes into decoding, hashing, sums over pictures and matrix
products, which let other threads run meanwhile; so nothing is copied between processes, no script
needs a guard around its main part, and the results are the same whatever the number of threads.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 8
_IN_FLIGHT = 4


def work_on(
    items: Iterable[Item], work: Callable[[Item], Result], *, threads: int | None = None
) -> Iterator[Result]:
    """Do the same work on every item.

    Args:
        items: Taken as they are needed.
        work: Its result must not depend on what was worked on before.
        threads: As many as there are processors by default, at most 8.

    Yields:
        The results, in the order of the items.
    """
    count = threads or min(_MOST_THREADS, os.cpu_count() or 1)
    waiting: deque[Future[Result]] = deque()
    # Small matrix products: a second thread within each would only be in the way.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(count) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= _IN_FLIGHT * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
