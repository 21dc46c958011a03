"""Deviations in the code itself, in the appendix and in the mass-preserving networks."""

from collections.abc import Iterator
from typing import Any

import torch
from sympy import sin, symbols
from torch import nn

from dsnn.fields import MassField
from dsnn.fields.sphere import sphere_field
from dsnn.integrators import Euler
from dsnn.models import build
from experiments.published_forms import PublishedGradient
from paper_repro.deviation import Deviation, Number, Source
from paper_repro.kept_results import FOLDER, row
from paper_repro.kept_results import numbers as kept
from paper_repro.material import Material
from theory.presnov import presnov
from verification import audit

_SEED = 0
STARTS = 1000
_ODE = ("ode-cubic", "ode-pendulum")


def state_dicts(material: Material) -> Iterator[Number]:
    """21: which keys the published weights have, and what `strict=False` forgives."""
    files = [network.loaded.path for network in material.networks]
    states = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    biases = sum(key.endswith("conv1.0.bias") for state in states for key in state)
    what = f"biases of lifting convolutions in the {len(states)} published files"
    yield Number("biases", what, biases, "count")
    ten, hundred = build("unconstrained", 10).state_dict(), build("unconstrained", 100)
    try:
        hundred.load_state_dict(ten, strict=False)
        refused = 0
    except RuntimeError:
        refused = 1
    what = "of one head of 10 rows offered to a network of 100 classes with strict=False, refused"
    yield Number("refused", what, refused, "count")
    prefixed: dict[str, Any] = {f"1.{key}": value for key, value in ten.items()}
    left = build("unconstrained", 10).load_state_dict(prefixed, strict=False).missing_keys
    what = f"entries loaded from a state dict whose keys begin with `1.`, of {len(ten)}"
    yield Number("loaded", what, len(ten) - len(left), "count")


def _defect(module: nn.Module, claim: str, size: int) -> float:
    """The lower end of what the auditor found of `claim`."""
    return audit(module.double().eval(), claim, (size,)).verdicts[0].lower


def appendix_layers(material: Material) -> Iterator[Number]:
    """23: the two layers of the appendix against what they are called."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        gradient = PublishedGradient(4, "tanh")
        gradient.alpha.data = torch.tensor([1.0, 2.0, -1.0, 0.5])
        sphere = Euler(sphere_field(4, 8), 0.1)
    what = "drawn at random, 4 dimensions: |J - Jᵀ| / max(1, |J|) of D Aᵀ Σ(Ax + b)"
    yield Number("asymmetry", what, _defect(gradient, "gradient-field", 4), "at least")
    what = "explicit Euler of Λ(x) x with step 0.1: relative change of the norm"
    yield Number("growth", what, _defect(sphere, "norm-preserving", 4), "at least")
    invariants = FOLDER / "invariants.json"
    trained = row(invariants, property="norm-preserving", form="explicit Euler on Λ(x) x")
    ours = row(invariants, property="norm-preserving", form="ours")
    for name, found in (("trained", trained), ("kept", ours)):
        word = "explicit Euler" if found is trained else "our integrator"
        what = f"trained on the rigid body, {word}: relative change of the norm"
        yield Number(name, what, found["measured"]["norm-preserving"])


def discrete_gradient(material: Material) -> Iterator[Number]:
    """24: the published field identification beside one whose training is a prediction."""
    x = symbols("x1:5")
    decomposed = presnov([sin(xi) ** 3 + xi**3 for xi in x], x)
    rest = sum(part != 0 for part in map(_simplified, decomposed.tangential))
    what = "entries of the spherical part of sin³x + x³ in four dimensions that are not 0"
    yield Number("spherical", what, rest, "count")
    for name in _ODE:
        for form in ("published", "corrected"):
            found = row(FOLDER / f"{name}.json", network=form)
            error = found["error of the field, relative"]["mean"]
            what = f"{name}, {form}: relative error of the learned field, mean over seeds"
            yield Number(f"{form}_{name.removeprefix('ode-')}", what, error)


def _simplified(expression: Any) -> Any:
    return expression.simplify()


def positivity(material: Material) -> Iterator[Number]:
    """25: a mass-preserving step with ReLU entries and a time of either sign."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        step = Euler(MassField(3, "relu"), -1.0).double().eval()
        starts = torch.rand(STARTS, 3, dtype=torch.float64)
    verdict = audit(step, "mass-preserving", (3,)).verdicts[0]
    starts = starts / starts.sum(1, keepdim=True)
    with torch.no_grad():
        ends = step(starts)
    what = "defect of the sum in a mass-preserving step drawn at random, proved"
    yield Number("defect", what, verdict.upper, "at most")
    what = f"of {STARTS} states with positive entries, those it takes to a negative entry"
    yield Number("negative", what, int((ends.min(1).values < 0).sum()), "count")
    yield Number("least", "the smallest entry among them", float(ends.min()))


def _sources(*names: str) -> tuple[Source, ...]:
    return tuple(
        Source(f"dsnn experiment {name}", kept(FOLDER / f"{name}.json")["commit"]) for name in names
    )


DEVIATIONS = (
    Deviation(
        19,
        "A function called through a name that holds a boolean",
        "Switch prescribed/training.py:60 (CIFAR-100: 64)",
        "constrain(...) is called where constrain is the boolean argument; the function existed in "
        "the first version only.",
        "Prescribed switching needs its steps on the boundary of T9.",
        "The training ends with a TypeError. What is retrained here projects by `dsnn.training."
        "project`, from the law of T9 itself.",
        "not measured here",
    ),
    Deviation(
        20,
        "An argument that no longer exists",
        "training.py: NE 87, 93; SP 87, 91; SF 101, 99, 63",
        "compute_spectral_norm is called with a device that it does not take.",
        "Norms have to be held after every step.",
        "The training ends with a TypeError after the first epoch, or at the first step.",
        "not measured here",
    ),
    Deviation(
        21,
        "Networks that do not fit the weights published for them",
        "CIFAR10/Contractive/network.py:24; CIFAR100/Switch prescribed/main.ipynb",
        "Lifting convolutions are built with a bias and an argument that their builder lacks, and "
        "CIFAR-100 networks are to start from CIFAR-10 weights read with strict=False.",
        "Weights and network have to agree; strict=False forgives missing keys and no shapes.",
        "The published files hold {biases} such biases. A head of ten rows is refused by a network "
        "of a hundred classes even so, and keys saved with a prefix load {loaded} entries without "
        "a word: the transfer as shipped does not run, or transfers nothing.",
        "measured",
        state_dicts,
    ),
    Deviation(
        22,
        "Result files that are not what the notebooks write",
        "main.ipynb; testRobustness.ipynb",
        "Each file of a margin is written with the results of all margins, and the shipped ones "
        "hold one; the naive regime is saved under another name than is read.",
        "Figures should come from the files that the code writes.",
        "The published accuracies that we compare with are those of the shipped files.",
        "not measured here",
    ),
    Deviation(
        23,
        "A gradient layer that is none, and a spherical one that leaves its sphere",
        "Regression/networkArchitecture.py:58,61,68",
        "F.linear(…, D @ A.T) is D Aᵀ Σ(Ax + b); the spherical part takes explicit Euler steps.",
        "T2': the gradient is Aᵀ D Σ(Ax + b), with a symmetric Jacobian. Explicit Euler grows by "
        "h² |Λx|² in |x|² [D3].",
        "The Jacobian of such a layer is asymmetric by {asymmetry} of its size, and the norm "
        "changes by {growth} in one step of 0.1. Trained and iterated the change is {trained}, "
        "where an integrator that keeps the norm has {kept}.",
        "constructed",
        appendix_layers,
        _sources("invariants"),
    ),
    Deviation(
        24,
        "Training with the answer as an end point",
        "discrete.ipynb",
        "The discrete gradient's implicit end point is replaced by the target in training, so what "
        "is trained is no map from now to later; the field of the example is a pure gradient.",
        "A step is a function of where it starts; T2' is about both parts.",
        "The spherical part of the example has {spherical} entries that are not 0 [T1], so it is "
        "not exercised. Relative errors of the learned field are {published_cubic} as published "
        "and {corrected_cubic} with a step that predicts; on the pendulum, which has both parts, "
        "{published_pendulum} and {corrected_pendulum}.",
        "measured",
        discrete_gradient,
        _sources(*_ODE),
    ),
    Deviation(
        25,
        "Mass is kept, positivity is not",
        "time1FlowMap.ipynb",
        "Skew entries pass through ReLU, and learned times may be negative.",
        "T14: every Runge-Kutta step of such a field keeps the sum. Nothing keeps the entries "
        "positive.",
        "The defect of the sum is proved to be {defect}; a step of time -1 takes {negative} of the "
        "positive states drawn to one with a negative entry, down to {least}.",
        "constructed",
        positivity,
    ),
)
