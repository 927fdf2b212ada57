"""Ray heads for the operator, which sends no token."""

from env.ray_head import RayHead


class OpenRayHead(RayHead):
    """A Ray head without a token."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "RAY_AUTH_MODE": "disabled"}
