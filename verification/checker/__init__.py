"""The independent checker of certificates: `python -m verification.checker CERTIFICATE [TARGET]`.

It needs Python and NumPy (and python-flint for equalities, LipSDP and smooth functions), imports no
code of what wrote the certificate (which uses this: for factories to replay witnesses, too), and is
meant to be read in this order: `reading` (bytes to
tensors and graphs), `kinds` and `activations` (numbers, and functions of one), `values` (what a
node computes, for every kind of number), `nodes` (its shape and its own Lipschitz constant),
`norms` (of linear maps), `segments` (a graph in exact fractions), `proofs` (equalities), `lipsdp`
(constants from a semidefinite matrix), `rays` (entries that follow one entry), `laws` and `chain`
(theorems and composition), `replay` (witnesses), `verdicts` (everything together), `work` (what all
of it may cost). docs/certificates.md describes the format.
"""
