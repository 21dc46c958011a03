"""The independent checker of certificates: `python -m verification.checker CERTIFICATE [TARGET]`.

It needs Python, NumPy and nothing else, shares no code with what wrote the certificate, and is
meant to be read in one sitting, in this order: `reading` (bytes to tensors and graphs), `nodes`
(what one node computes: its shape and its own Lipschitz constant), `norms` (of linear maps),
`chain` (theorems and composition), `replay` (witnesses), `verdicts` (everything together).
docs/certificates.md describes the format.
"""
