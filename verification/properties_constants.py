"""Which nodes add a constant that is not 0."""

from verification.graph import Graph, Node


def has_constants(node: Node, name: str) -> bool:
    """Whether the constant of that name is there and may have an entry other than 0."""
    if name not in node.constants:
        return False
    constant = node.constants[name]
    return bool(constant.factor) and bool(constant.rounded or (constant.value != 0).any())


def has_offsets(graph: Graph) -> bool:
    """Whether any node adds a constant."""
    return any(has_constants(node, "bias") or node.kind == "constant" for node in graph)
