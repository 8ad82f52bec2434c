"""Which workers are registered: the only page of the scheduler's HTTP server.

`GET /workers` → `{"workers": {"worker-1": {"address": "tls://…", "slots": 2, "busy": 1,
"silent_seconds": 0.4}}}`. A worker whose process lives while its name is missing here takes no
runs: the supervisor starts it again.
"""

from __future__ import annotations

import time

from distributed.http.utils import RequestHandler


class WorkersHandler(RequestHandler):
    def get(self) -> None:
        workers = self.server.workers.values()
        self.set_header("Cache-Control", "no-store")
        self.write(
            {
                "workers": {
                    str(worker.name): {
                        "address": worker.address,
                        "slots": worker.nthreads,
                        "busy": len(worker.processing),
                        "silent_seconds": round(max(0.0, time.time() - worker.last_seen), 1),
                    }
                    for worker in workers
                }
            }
        )


routes: list[tuple] = [("/workers", WorkersHandler, {})]
