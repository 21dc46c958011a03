"""Numbers that prose may state, by reason. A phrase built from the code goes stale with it."""

import inspect
import tomllib

from prose_numbers import ROOT

from dsnn.data.statistics import published_evaluation, training
from dsnn.zoo import index
from experiments import (
    attacks,
    curves,
    epsilons,
    hamiltonian,
    ode_fields,
    pieces,
    protocol,
    regression,
    sir,
    trained_invariants,
)
from paper_repro import compared, deviations_protocol, published
from theory import projections
from theory.facts import h_1, h_2
from verification import isolation
from verification.checker import replay, segments
from verification.sandbox import Limits
from verification.store import Store

MIB = 1 << 20
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHON = PROJECT["requires-python"].removeprefix(">=")
(TORCH,) = (d.removeprefix("torch>=") for d in PROJECT["dependencies"] if d.startswith("torch>="))
SMOKE, CPU, PAPER = (
    protocol.configuration("naive", "cifar10", protocol.MARGIN, scale) for scale in protocol.SCALES
)
TRANSFER = protocol.configuration("naive", "cifar100", protocol.MARGIN, "cpu", transfer=True)
LIMITS = Limits()
STORED = inspect.signature(Store).parameters["largest"].default
EXECUTED = [f"{value:g}" for value in (*map(float, projections.BOX[h_1]), 0)]
LOWEST, HIGHEST = (f"{float(end):g}" for end in projections.BOX[h_2])
EVALUATED, TRAINED = (
    f"({', '.join(f'{s:.{digits}f}' for s in std)})"
    for std, digits in (
        (published_evaluation("switch-prescribed", "cifar10")[1], 3),
        (training("cifar10")[1], 4),
    )
)

ATTACKED, RETRAINED = (
    round(share * published.IMAGES)
    for share in (compared.PGD_TOLERANCE, compared.RETRAINED_TOLERANCE)
)


def channels(of: protocol.Configuration) -> str:
    return f"{', '.join(map(str, of.channels))} channels"


ALLOWED = {
    "versions": [
        f"Python >= {PYTHON}",
        f"torch >= {TORCH}",
        f"Release notes: {PROJECT['version']}",
        "compatibility before 1.0",
        "Landlock (Linux 5.13)",
        "truncating from Linux 6.2 on",
        "from Linux 6.12 on",
    ],
    "citations": [
        "arXiv 2210.02373",
        "Li, Lin and Shen (1912.10382)",
        "Murari, Furuya and Schönlieb (2505.12003)",
        "SIAM J. Sci. Comput. 45(6), 2023",
        "Singla and Feizi (2020)",
        "Jaakkola and Jordan (2000)",
        "Goodfellow et al. 2015",
        "Prach and Lampert 2022",
        "Araujo et al. 2023",
    ],
    "numbers of the paper": [
        f"first {epsilons.PAPER_LIMIT} test images",
        f"first {epsilons.PAPER_LIMIT} images",
        f"as the paper: {epsilons.PAPER_LIMIT} images",
        f"interval that {epsilons.PAPER_LIMIT} images alone give",
        f"Published (%), {epsilons.PAPER_LIMIT} images",
        f"Ten steps of {attacks.PAPER.rel_stepsize} ε",
        "the published 3.35e-6",
        "published: 3.92e-6",
        f"[{LOWEST}, {HIGHEST}]",
        f"at most {HIGHEST}; a negative one",
        f"expansion by up to {LOWEST.removeprefix('-')}",
        "first step may reach 1.9",
        f"a second step of {HIGHEST}",
        f"the {HIGHEST} of the published code",
        f"beside {EXECUTED[0]}, where",
        f"standard deviations {EVALUATED}",
        f"trained with {TRAINED}",
    ],
    "names of networks, which are their margins": [
        *(f"margin {margin}" for margin in protocol.MARGINS[:2]),
        f"non-expansive {protocol.MARGIN}",
    ],
    "conventions": [
        "95 % interval",
        "95 % t-interval",
        "36/255, 72/255, 108/255",
        "Square with 5000 queries",  # AutoAttack's own
        "all 10,000 test images",  # of CIFAR-10
    ],
    "constructed cases": [
        "a step of -1.9 executed as +1.9",
        "1.5 times the identity",
        "in one step of 0.1",
        f"at ε = {deviations_protocol.EPSILON}",
    ],
    "settings and limits in the code": [
        f"| {ATTACKED} of {published.IMAGES} images: the attack",
        f"| {RETRAINED} of {published.IMAGES}: what two",
        f"in 95 % of cases, each seen on {published.IMAGES} images of its own",
        f"momentum {PAPER.momentum}, batches of {PAPER.batch}, {PAPER.epochs} epochs",
        f"{channels(SMOKE)} | {SMOKE.epochs} epochs of {SMOKE.images} images",
        f"{channels(CPU)} | {CPU.epochs} epochs, {TRANSFER.epochs} from CIFAR-10 weights, "
        f"one drop of the rate after {CPU.drop} %",
        f"{channels(PAPER)} | {PAPER.epochs} epochs",
        f"shards of {pieces.SHARD} images",
        f"at up to {curves.POINTS} epsilons",
        f"at most {index.LARGEST // 10**6} MB in all",
        f"wall clock, {LIMITS.seconds:.0f} s",
        f"address space: {LIMITS.memory >> 30} GiB",
        f"stopped after {LIMITS.printed // MIB} MiB",
        f"{LIMITS.written // 4 // MIB} MiB a file, {LIMITS.written // MIB} MiB and "
        f"{LIMITS.files} files in all, looked at every 0.1 s",
        f"scratch folder: {isolation.OPEN_FILES} of them",
        f"cache folder ({STORED // MIB} MiB at most)",
        f"a point, up to {replay.LARGEST_JACOBIAN} inputs",
        f"more than {segments.LARGEST_STATE} entries in a state",
        f"more than {replay.LARGEST_JACOBIAN} inputs",
        f"more than {replay.LARGEST_WORK:.0e} products".replace("e+0", "e"),
        f"over {trained_invariants.ITERATIONS:,} applications",
        f"trajectories of {trained_invariants.ITERATIONS:,} steps",
        f"Rollouts of the step {sir.ROLLOUT.step}",
        f"the noise of {regression.NOISE}",
        f"flow of x over {ode_fields.CUBIC.step}",
        f"Steps of {hamiltonian.PENDULUM.step} of the pendulum",
        f"applied {hamiltonian.PENDULUM.iterations:,} times",
    ],
}
"""Phrases as `prose_numbers.prose` shows them, code left out."""
PHRASES = [phrase for phrases in ALLOWED.values() for phrase in phrases]
