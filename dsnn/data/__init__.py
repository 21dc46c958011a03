"""Images, labels and published weights: where they lie, whether they are intact, how they read.

`folder` decides the one place where data is looked for, `sources` knows what belongs there and
its published hashes, `fetch` brings it, `cifar` reads it and `generated` makes a stand-in.
"""
