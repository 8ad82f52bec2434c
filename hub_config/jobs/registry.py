"""Which workers are registered: the only page of the scheduler's HTTP server.

`GET /workers` → `{"workers": {"worker-1": {"slots": 2}}}`. A worker whose process lives while its
name is missing here takes no runs: the supervisor starts it again.
"""

from __future__ import annotations

from distributed.http.utils import RequestHandler


class WorkersHandler(RequestHandler):
    def get(self) -> None:
        workers = self.server.workers.values()
        self.set_header("Cache-Control", "no-store")
        self.write({"workers": {str(w.name): {"slots": w.nthreads} for w in workers}})


routes: list[tuple] = [("/workers", WorkersHandler, {})]
