"""A parallel-programming lab around a faithful port of gpt.c (GPT-2 inference).

Importing any module of the lab first pins the BLAS library inside numpy to one thread, while that can still be done
through the environment: the lab's threads are the ones in `threadlib`, and no others. `onethread` checks that it
worked.
"""

import os as _os

BLAS_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
for _variable in BLAS_THREAD_VARIABLES:
    _os.environ[_variable] = "1"
