"""Train, evaluate, attack, certify: configurations and their commands."""
