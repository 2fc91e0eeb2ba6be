"""Pauses that grow with the number of failures in a row."""


def pause_after(failures: int, first: float, most: float) -> float:
    """Return the pause after *failures* in a row: *first* seconds, then twice the last, up to *most*.

    >>> [pause_after(failures, 0.5, 3.0) for failures in (1, 2, 3, 4, 10**6)]
    [0.5, 1.0, 2.0, 3.0, 3.0]
    """
    # 2.0 ** 64 is far beyond any maximum: many failures must not overflow.
    return min(first * 2.0 ** min(failures - 1, 64), most)
