from dsnn.models.cifar import ARCHITECTURES, CifarNet, build

__all__ = ["ARCHITECTURES", "CifarNet", "build"]
