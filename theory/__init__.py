"""The mathematics: theorems, step-size laws, proofs. Imports no torch."""
