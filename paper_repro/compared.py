"""The published robust accuracies and areas beside ours, each with a tolerance and a verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dsnn.published import REGIMES
from paper_repro import published
from paper_repro.artefact import Comparison, compare, not_run
from paper_repro.evaluated import SOURCES, Evaluated
from paper_repro.models import Model, Source

PGD_TOLERANCE = 12 / published.IMAGES
"""Images by which the paper's attack may differ on one network: random starts are not the
authors'."""
RETRAINED_TOLERANCE = 44 / published.IMAGES
"""By which the shares of two networks of the same accuracy differ at most in 95 % of cases, were
each seen on 1024 images of its own: 1.96 sqrt(2 / (4 1024))."""

PICTURED = (0.0, 0.5, 0.6, 0.8, 1.0)
"""Sizes of attacks: at the first the paper's unconstrained networks are ahead, then behind."""

_STATISTICS = (
    "evaluated with the statistics of training; the authors evaluated this regime with others"
)
_CLEAN = "our arithmetic puts images that lie on a decision boundary on its other side"
_STARTS = "the attack's random starts are not the authors', and this is more than they explain"
_OTHER = "another network, by our training at this scale and not by the authors'"


def accuracies(
    dataset: str, margin: str, inputs: Mapping[str, Path], found: Mapping[str, Evaluated]
) -> list[Comparison]:
    """A row for each published accuracy at one margin and each network that it can be held to."""
    rows = []
    for curve in published.curves(dataset, inputs["robustness"]).values():
        if curve.margin != margin:
            continue
        for model in networks(dataset, curve.regime, margin, found):
            ours = found.get(model.id)
            for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True):
                rows.append(
                    _row(
                        f"{curve.regime} at margin {margin}, epsilon {epsilon:.4g}: "
                        f"{SOURCES[model.source]}",
                        accuracy,
                        _tolerance(model, epsilon),
                        _accuracy(dataset, epsilon, model, ours),
                        _reason(model, ours, epsilon),
                    )
                )
    return rows


def areas(
    dataset: str, inputs: Mapping[str, Path], found: Mapping[str, Evaluated]
) -> list[Comparison]:
    """The published areas against those under the published curves, then under ours."""
    rows = []
    curves = published.curves(dataset, inputs["robustness"])
    for (regime, margin), area in published.printed_auc(dataset, inputs["auc"]).items():
        what = f"AUC of {regime} on {dataset} at margin {margin}"
        rows.append(
            compare(
                what,
                area,
                curves[regime, margin].auc,
                published.AUC_TOLERANCE,
                "the trapezoid over the nine published accuracies gives another area",
            )
        )
        for model in networks(dataset, regime, margin, found):
            ours = found.get(model.id)
            name = f"{what}: {SOURCES[model.source]}"
            area_of_ours = _area(dataset, curves[regime, margin], model, ours)
            reason = _reason(model, ours, 1.0)
            rows.append(_row(name, area, _tolerance(model, 1.0), area_of_ours, reason))
    return rows


def picture(
    dataset: str, margin: str, inputs: Mapping[str, Path], found: Mapping[str, Evaluated]
) -> list[Comparison]:
    """What the paper shows, in our networks: that the unconstrained one is ahead of the best of the
    others on clean images, and behind the least of them under larger attacks. One-sided: agrees
    where our lead has the sign of the published one."""
    every = published.curves(dataset, inputs["robustness"]).values()
    curves = [curve for curve in every if curve.margin == margin]
    models = [Model(Source.retrained, curve.regime, dataset, margin) for curve in curves]
    rows = []
    for epsilon in PICTURED:
        rival = "least" if epsilon else "best"
        what = f"lead of unconstrained over the {rival} other, margin {margin}, epsilon {epsilon:g}"
        lead = _lead(epsilon, [curve.at(epsilon) for curve in curves])
        shares = [_accuracy(dataset, epsilon, one, found.get(one.id)) for one in models]
        if whys := [share for share in shares if isinstance(share, str)]:
            rows.append(Comparison(what, lead, None, None, "not run", whys[0]))
            continue
        ours = _lead(epsilon, [share for share in shares if not isinstance(share, str)])
        same = ours * lead > 0
        verdict, reason = ("agrees", "") if same else ("differs", _OTHER)
        rows.append(Comparison(what, lead, ours, None, verdict, reason))
    return rows


def networks(dataset: str, regime: str, margin: str, found: Mapping[str, Evaluated]) -> list[Model]:
    """What a published number can be held to: the authors' weights where they published them, a
    network of ours where there is one or nothing else."""
    theirs, ours = (
        Model(source, regime, dataset, margin) for source in (Source.published, Source.retrained)
    )
    available = dataset == "cifar10" and regime in REGIMES
    return [theirs] * available + [ours] * (ours.id in found or not available)


def comparable(dataset: str, model: Model, ours: Evaluated | None) -> str:
    """Why no number of a network can stand beside a published one; empty where it can."""
    if ours is None and model.source == Source.published:
        return "the authors' weights are not evaluated at this scale"
    if ours is None:
        return "the authors published no such weights, and no network of ours is evaluated here"
    if ours.dataset != dataset:
        return f"evaluated on {ours.dataset} images"
    return ""


def _lead(epsilon: float, shares: Sequence[float]) -> float:
    """Of the first over the best of the others, or under attack over the least."""
    first, *others = shares
    return first - (min if epsilon else max)(others)


def _accuracy(dataset: str, epsilon: float, model: Model, ours: Evaluated | None) -> float | str:
    """The accuracy, or why there is none."""
    if (why := comparable(dataset, model, ours)) or ours is None:
        return why
    point = ours.at(epsilon)
    if point is None:
        return "not attacked at this size"
    if point.images != published.IMAGES:
        return f"evaluated on {point.images} images and not on the first {published.IMAGES}"
    return point.accuracy


def _area(
    dataset: str, curve: published.Curve, model: Model, ours: Evaluated | None
) -> float | str:
    for epsilon in curve.epsilons:
        if isinstance(found := _accuracy(dataset, epsilon, model, ours), str):
            return found if found != "not attacked at this size" else "not attacked at all sizes"
    assert ours is not None
    return ours.curve.auc


def _row(what: str, value: float, tolerance: float, ours: float | str, reason: str) -> Comparison:
    if isinstance(ours, str):
        return not_run(what, value, tolerance, ours)
    return compare(what, value, ours, tolerance, reason)


def _tolerance(model: Model, epsilon: float) -> float:
    """Clean accuracies of the authors' own weights are theirs to the image."""
    if model.source == Source.retrained:
        return RETRAINED_TOLERANCE
    return PGD_TOLERANCE if epsilon > 0 else 0.0


def _reason(model: Model, ours: Evaluated | None, epsilon: float) -> str:
    if model.source == Source.retrained:
        return _OTHER
    if model.regime == "switch-prescribed" and ours and ours.protocol != "published":
        return _STATISTICS
    return _STARTS if epsilon > 0 else _CLEAN
