"""The independent checker of certificates: `python -m verification.checker CERTIFICATE [TARGET]`.

It needs Python, NumPy and python-flint, shares no code with what wrote the certificate, and is
meant to be read in this order: `reading` (bytes to tensors and graphs), `values` (what a node
computes, for every kind of number), `nodes` (its shape and its own Lipschitz constant), `norms` (of
linear maps), `segments` (a graph in exact fractions), `proofs` (equalities), `lipsdp` (constants
from a semidefinite matrix), `chain` (theorems and composition), `replay` (witnesses), `verdicts`
(everything together), `work` (what all of it may cost). docs/certificates.md describes the format.
"""
