"""Which of many claims may be made at once. Pure.

Claims come one after another. Those that were made stay, with their evidence as it was then, so what is
asked is how many of the strongest open claims may join them. A family is all M nulls that could have been
rejected, both sides of each cell; a null that no claim is about counts as evidence 0. With e-processes the
answers hold at whatever time the claims end, for any dependence.

Both rules are closed tests: with N the true nulls and e(I) the mean evidence of a set I of nulls, whatever
is claimed satisfies a bound by e(N), and e(N) has expectation at most 1. They are the e-closure principle
of Xu, Solari, Fischer, de Heide, Ramdas and Goeman, arXiv 2504.11759, and for single claims Vovk and Wang,
arXiv 1912.06116, section 5; the sets that such a test looks at come down to these inequalities as every
null outside the claims is taken as 0.
"""

from __future__ import annotations

import numpy as np

MOST = 600.0
"""Largest logarithm of evidence that is exponentiated: e^600 is above every threshold and below overflow."""


def join_fdr(made: np.ndarray, open_: np.ndarray, num_nulls: int, alpha: float) -> int:
    """How many of the strongest open claims may join at a false discovery rate of at most ``alpha``.

    R claims, the smallest m of them: their mean evidence is at least (M - R + m)/(αR), for every m. That of
    e-BH (arXiv 2009.02824) is M/(αR) for the smallest alone, so it claims no more. Proof: with f true nulls
    claimed, e(N) ≥ (sum of the f smallest)/(f + M - R) ≥ f/(αR), so the false share is at most α·e(N).

    Args:
        made: logs of the evidence of claims made before.
        open_: the same of open claims, strongest first.
        num_nulls: M, size of the family.
        alpha: the rate.
    """
    evidence = np.exp(np.minimum(np.concatenate([made, open_]), MOST))
    before = len(made)
    sizes = before + np.arange(1, len(open_) + 1)
    weakest = np.minimum(evidence[before:], evidence[:before].min(initial=np.inf))
    for size in sizes[weakest >= (num_nulls - sizes + 1) / (alpha * sizes)][::-1]:
        smallest = np.arange(1, size + 1)
        sums = np.cumsum(np.sort(evidence[:size]))
        if (sums >= smallest * (num_nulls - size + smallest) / (alpha * size)).all():
            return int(size - before)
    return 0


def join_fwer(made: np.ndarray, open_: np.ndarray, num_nulls: int, alpha: float) -> int:
    """How many of the strongest open claims may join so that, but for a chance of ``alpha``, none is false.

    All R claims have evidence of at least (M - R + 1)/α: with f ≥ 1 true nulls claimed, e(N) ≥ 1/α.
    """
    sizes = len(made) + np.arange(1, len(open_) + 1)
    enough = np.flatnonzero(open_ >= np.log((num_nulls - sizes + 1) / alpha))
    return int(enough[-1]) + 1 if len(enough) else 0
