"""Linear algebra backends: each is a library with a kernel set, run in a worker process of its own.

``registry`` names them, ``pool`` starts and asks them, ``worker`` is the script that runs in each process,
``gemm`` and ``frameworks`` are what it runs, ``equivalence`` sorts them into classes of identical bits.
"""
