"""Dynamical systems based neural networks: fields, integrators, operators, models."""
