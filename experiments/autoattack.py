"""AutoAttack in l2, standard version, by its authors' package: four attacks one after another.

APGD on the cross-entropy, APGD on the targeted DLR loss, targeted FAB and Square; each is run on
what the ones before it left [Croce and Hein 2020]. Whether an example counts is for
`experiments.attacks.judge` to say, after every one of the four: what the package calls broken by a
rounding outside the ball goes on to the next attack.
"""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from experiments.attacks import into_ball, judge

if TYPE_CHECKING:
    from pyautoattack import AutoAttack

PACKAGE = "pyautoattack"
STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The attacks of the standard version, in their order."""
TARGETS = 9
"""Classes that the targeted attacks aim at, the likeliest first, or all others."""
FEWEST = 4
"""Classes below which the targeted DLR loss is not defined."""


@dataclass(frozen=True)
class Outcome:
    """Per image: the attack that broke it first, None where all failed; and whether the gradient
    of its logit margin is zero at the image, so that only Square sees where to go."""

    by: tuple[str | None, ...]
    zero_gradient: tuple[bool, ...]


def version() -> str:
    """The version of the package. Raises UserError where it is not installed."""
    if util.find_spec(PACKAGE) is None:
        raise UserError(
            f"--attack autoattack needs the package {PACKAGE}: pip install 'dsnn[attacks]'"
        )
    return metadata.version(PACKAGE)


def check(model: nn.Module, images: Tensor) -> None:
    """Raise UserError where the standard version does not apply: too few classes, a network whose
    answer to the same images changes from call to call, or one without gradients."""
    with torch.no_grad():
        once, again = model(images), model(images)
    if once.shape[1] < FEWEST:
        raise UserError(
            f"--attack autoattack aims at the fourth likeliest class, and the network has "
            f"{once.shape[1]}: use --attack pgd-paper"
        )
    if not torch.equal(once.nan_to_num(), again.nan_to_num()):
        raise UserError(
            "--attack autoattack is for deterministic networks, and two calls on the same images "
            "gave different scores: fix what is random in the forward pass"
        )
    _gradient(model, images, once.argmax(1))


def autoattack(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, seed: int
) -> Outcome:
    """Attack images (B, channels, H, W) in [0, 1] that `model` classifies as `labels` (B,).

    `seed` decides all randomness and the global random state is left as it was; nothing is printed
    or logged. Raises UserError as `version` and `check`.
    """
    version()
    check(model, images)
    devices = [images.device] if images.device.type == "cuda" else []
    by: list[str | None] = [None] * len(images)
    with torch.random.fork_rng(devices=devices), _silence():
        attack = _standard(model, images, epsilon, seed)
        for name in STANDARD:
            left = [i for i, found in enumerate(by) if found is None]
            if not left:
                break
            attack.attacks_to_run = [name]
            x, y = images[left], labels[left]
            found = into_ball(x, _found(attack, x, y), epsilon)
            outcome = judge(model, x, y, found, epsilon)
            for i, broken in zip(left, outcome.broken.tolist(), strict=True):
                by[i] = name if broken else None
    blind = (_gradient(model, images, labels).flatten(1) == 0).all(1)
    return Outcome(tuple(by), tuple(blind.tolist()))


def _standard(model: nn.Module, images: Tensor, epsilon: float, seed: int) -> "AutoAttack":
    from pyautoattack import AutoAttack

    with torch.no_grad():
        targets = min(TARGETS, model(images[:1]).shape[1] - 1)
    attack = AutoAttack(
        model, norm="L2", eps=epsilon, seed=seed, version="standard", device=images.device
    )
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    return attack


def _found(attack: "AutoAttack", images: Tensor, labels: Tensor) -> Tensor:
    """What one attack makes of each image, itself where it finds nothing.

    Square fails where its start leaves no image but exact ties, which it neither counts as broken
    nor goes on with: then each image is attacked alone, and a tie stays as it is.
    """
    try:
        return attack.run_standard_evaluation(images, labels, batch_size=len(images))[0]
    except RuntimeError as error:
        if "tensor of 0 elements" not in str(error):
            raise
    if len(images) == 1:
        return images
    first = _found(attack, images[:1], labels[:1])
    return torch.cat([first, _found(attack, images[1:], labels[1:])])


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the logit margin at each image, shaped like `images`."""
    images = images.clone().requires_grad_()
    logits, chosen = model(images), labels[:, None]
    margin = logits.gather(1, chosen)[:, 0] - logits.scatter(1, chosen, -torch.inf).amax(1)
    try:
        return torch.autograd.grad(margin.sum(), images)[0]
    except RuntimeError as error:
        if "does not require grad" not in str(error) and "not have been used" not in str(error):
            raise
        raise UserError(
            "--attack autoattack follows gradients, and the scores of this network have none with "
            "respect to its input: make its forward pass differentiable"
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No print, no log of the package, and no change of the trace function, which it unsets."""
    logger, trace = logging.getLogger("auto-attack"), sys.gettrace()
    before, logger.disabled = logger.disabled, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.disabled = before
        sys.settrace(trace)
