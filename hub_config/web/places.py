"""Where things are: addresses of hub, Lab and services, on one origin or on several."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from hub_config.identity import project_account
from hub_config.settings import Settings


class Places:
    """Addresses for links; relative ones where everything has one origin."""

    def __init__(self, settings: Settings, prefix: str) -> None:
        self.prefix = prefix
        self._host = urlsplit(settings.hub.subdomain_host)
        self.hub = settings.hub.subdomain_host.rstrip("/") + "/hub/"
        self.experiments = settings.service_origin("mlflow") + "/services/mlflow/"

    @property
    def other_origins(self) -> str:
        """Origins besides our own that a form may lead to, as a source list of a policy."""
        if not self._host.hostname:
            return ""
        return (
            f"{self._host.scheme}://{self._host.netloc} {self._host.scheme}://*.{self._host.netloc}"
        )

    def lab(self, project: str, path: str = "") -> str:
        """Lab in the project's shared server, at the file `path`."""
        account = project_account(project)
        origin = f"{self._host.scheme}://{account}.{self._host.netloc}" if self._host.netloc else ""
        return f"{origin}/user/{account}/lab" + (f"/tree/{quote(path)}" if path else "")
