"""The servers a test can start; see each class for what it promises."""

from .databases import MariaDb, MySql
from .ray_head import RayHead
from .sqs_server import MiniStack

__all__ = ["MariaDb", "MySql", "MiniStack", "RayHead"]
