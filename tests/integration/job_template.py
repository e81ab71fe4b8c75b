# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that can be asked to launch one job over HTTP, as AWX is: ``POST /api/v2/job_templates/7/launch/`` with ``{"extra_vars": {…}}``.

job_template.py ADDRESS PORT TOKEN COMMAND...      prints "ready", then the exit code of each job
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

PATH = "/api/v2/job_templates/7/launch/"


def job(command: list[str], extra_vars: dict[str, Any]) -> None:
    """Run one job; what it says goes to stderr."""
    done = subprocess.run([*command, "-e", json.dumps(extra_vars)], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    print(done.returncode, flush=True)


def main(address: str, port: str, token: str, *command: str) -> None:
    """Serve until killed."""

    class Launch(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Launch the job and answer at once."""
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            allowed = (self.path, self.headers["Authorization"]) == (PATH, f"Bearer {token}")
            self.send_response(201 if allowed else 403)
            self.end_headers()
            if allowed:
                threading.Thread(target=job, args=([*command], asked["extra_vars"])).start()

    with HTTPServer((address, int(port)), Launch) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
