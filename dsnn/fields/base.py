"""What every vector field is: x -> dx/dt, built from linear operators and an activation."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class VectorField(nn.Module, ABC):
    """dx/dt = f(x); `forward` maps a batch of states to a batch of velocities of that shape."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def euler(self, x: Tensor, time: Tensor) -> Tensor:
        """The explicit Euler step x + time f(x); a field may compute the same map faster."""
        return x + time * self(x)
