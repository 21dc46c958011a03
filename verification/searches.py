"""Witnesses for the claims about one module: searched once, replayed, kept, made simple to look at.

`witness` knows how to search one map; this knows which map a claim is about, how long a search may
take, and which claims share what it found.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from dsnn.errors import UserError
from verification import graph_file, witness
from verification.capture import Uncapturable
from verification.claims import Claim
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.parts import Shape
from verification.pixel_input import PixelInput
from verification.store import Store, key
from verification.targets import Target

SEARCH_SECONDS = (0.2, 5.0)
"""Least and most time for a search of a witness; between, its share of a fifth of the budget."""
HOPELESS = 0.1
"""Seconds for a search that can hardly refute, as the claim allows the bound at the unproved ends
of all spectra. It still gives the interval a lower end."""
LONG_SEARCH = 40.0
"""Seconds up to which a search may take as long as a slow bound took, however small the budget:
large modules are slow in both."""


class Searches:
    """The searches of one audit of `subject`, each of `seconds`; `store` keeps pairs that refute
    between runs."""

    def __init__(self, subject: Target, store: Store | None):
        self.subject, self.parts, self.store = subject, subject.parts, store
        self.seconds = SEARCH_SECONDS[1]
        self._pairs: dict[tuple[str, bool, bool], witness.Witness | None] = {}

    def share(self, budget: float, claims: int) -> None:
        """Give each of so many claims its share of the budget, in seconds."""
        least, most = SEARCH_SECONDS
        self.seconds = min(most, max(least, budget / 5 / max(1, claims)))

    def best(
        self, claim: Claim, name: str, *, hopeless: bool, spent: float
    ) -> witness.Witness | None:
        """The best pair for the module, whose bound took `spent` seconds, searched once and shared
        by the claims about it that are as `hopeless`. None also where nothing rigorous can be said
        of what it computes: one that cannot be captured may mix the examples of a batch, and a pair
        is replayed in one batch."""
        shape = self.parts.shape(name)
        if isinstance(shape, Uncapturable) or isinstance(self.parts.graph(name), Uncapturable):
            return None
        about = (name, claim.pixel, hopeless)
        if about not in self._pairs:
            try:
                long = spent > SEARCH_SECONDS[1]
                seconds = min(LONG_SEARCH, spent) if long else self.seconds
                seconds = min(HOPELESS, seconds) if hopeless else seconds
                self._pairs[about] = self._found(claim, name, shape, seconds)
            except UserError:
                raise
            except Exception:  # somebody's module raises what it likes: the claim stays unknown
                self._pairs[about] = None
        return self._pairs[about]

    def shrunk(self, claim: Claim, name: str, pair: witness.Witness) -> witness.Witness:
        """A simpler pair that refutes the claim too, or the same."""
        limit, graph = float(claim.limit or 1), self._meaning(claim, name)
        module, seconds = self._searched(claim, name), self.seconds / 2
        try:
            shrunk = witness.shrink(module, pair, limit, graph=graph, budget_seconds=seconds)
            shrunk = self._confirmed(name, shrunk)
        except Exception:  # somebody's module has no value there, and says so
            return pair
        return pair if claim.allows(shrunk.ratio) else shrunk

    def place(self, kind: str, name: str, options: Mapping[str, Any]) -> str:
        """Where the store keeps what was found out about the graph of a part; "" is nowhere."""
        graph = self.parts.graph(name)
        if self.store is None or isinstance(graph, Uncapturable):
            return ""
        try:
            known = {"graph": graph_file.digest(graph), "seconds": self.seconds}
        except (TypeError, ValueError, RuntimeError):  # constants that no file holds
            return ""
        return key(kind, **known, **options)

    def _found(
        self, claim: Claim, name: str, shape: Shape, seconds: float
    ) -> witness.Witness | None:
        """A pair from the store, or from a search; its ratio is that of a replay in either case.
        Pairs that refute are stored: what one search leaves open, the next may find."""
        target = float(claim.limit or 1)
        statistics = self.subject.statistics if claim.pixel else None
        place = self.place("witness", name, {"target": target, "statistics": statistics})
        stored = self.store and place and self.store.get(place)
        if stored:
            x, y = stored.tensors["x"], stored.tensors["y"]
            return witness.Witness(x, y, self._replay(claim, name, x, y))
        found = self._in_pixels(claim, name)
        if found is None or claim.allows(found.ratio):
            searched = witness.search(
                self._searched(claim, name),
                shape,
                graph=self._meaning(claim, name),
                target=target,
                starts=self.parts.starts(name),
                budget_seconds=min(HOPELESS, seconds) if found else seconds,
            )
            searched = searched and self._confirmed(name, searched)
            pairs = [pair for pair in (found, searched) if pair is not None]
            found = max(pairs, key=lambda pair: pair.ratio, default=None)
        if self.store and place and found and not claim.allows(found.ratio):
            self.store.put(place, None, {"x": found.x, "y": found.y})
        return found

    def _in_pixels(self, claim: Claim, name: str) -> witness.Witness | None:
        """For a claim about pixels, the best pair found for the normalised input, as images: with
        nearly equal std it is nearly the best there, and another search has little to add."""
        known = [
            pair for (part, pixel, _), pair in self._pairs.items() if (part, pixel) == (name, False)
        ]
        pairs = [pair for pair in known if pair is not None]
        if not claim.pixel or not pairs or self.subject.statistics is None:
            return None
        best = max(pairs, key=lambda pair: pair.ratio)
        mean, std = (best.x.new_tensor(values)[:, None, None] for values in self.subject.statistics)
        x, y = best.x * std + mean, best.y * std + mean
        return witness.Witness(x, y, self._replay(claim, name, x, y))

    def _searched(self, claim: Claim, name: str) -> nn.Module:
        module = self.parts.module(name)
        if claim.pixel and self.subject.statistics:
            return PixelInput(module, *self.subject.statistics)
        return module

    def _replay(self, claim: Claim, name: str, x: Tensor, y: Tensor) -> float:
        if self.parts.modules:
            meaning = self._meaning(claim, name)
            return witness.replayed(self._searched(claim, name), meaning, x, y)
        return self.parts.replay(name, x, y)

    def _confirmed(self, name: str, pair: witness.Witness) -> witness.Witness:
        """The pair with a ratio that is proved for the part itself: a module that is not here was
        searched on the interpreter of its graph, which rounds products of constants."""
        if self.parts.modules:
            return pair
        return replace(pair, ratio=self.parts.replay(name, pair.x, pair.y))

    def _meaning(self, claim: Claim, name: str) -> Graph | nn.Module | None:
        graph = self.parts.graph(name)
        if isinstance(graph, Uncapturable):
            return None
        if not claim.pixel or self.subject.statistics is None:
            return graph
        if any(node.kind == "unknown" for node in graph):
            return None
        return PixelInput(Interpreter(graph), *self.subject.statistics)
