"""Verdicts: sound bounds, witnesses, audits, suites. Importing this package loads nothing heavy."""
