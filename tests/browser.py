"""Pages in headless Chromium, by the WebDriver protocol; there is no package to install."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
DRIVER = shutil.which("chromedriver")
_SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
    *("disable-background-networking", "disable-component-update", "hide-scrollbars"),
)


class Browser:
    """One window."""

    def __init__(self, address: str) -> None:
        self._address = address

    def _ask(self, path: str, **content: Any) -> Any:
        body = json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, body, headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)["value"]

    def tool(self, name: str, **settings: Any) -> Any:
        """Call one of Chromium's developer tools."""
        return self._ask("/goog/cdp/execute", cmd=name, params=settings)

    def open(self, page: Path, width: int = 1200, dark: bool = False) -> None:
        """Show a page."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.tool("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tool("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("/url", url=page.resolve().as_uri())

    def run(self, script: str) -> Any:
        """Run a script and return what it returns."""
        return self._ask("/execute/sync", script=script, args=[])

    def complaints(self) -> list[str]:
        """What the console holds since this was asked last, such as what a policy forbade."""
        return [entry["message"] for entry in self._ask("/se/log", type="browser")]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            switches = [f"--{one}" for one in (*_SWITCHES, f"user-data-dir={profile}")]
            options = {"binary": CHROMIUM, "args": switches}
            wanted = {
                "alwaysMatch": {
                    "goog:chromeOptions": options,
                    "goog:loggingPrefs": {"browser": "ALL"},
                }
            }
            root = f"http://127.0.0.1:{port}/session"
            for _ in range(100):
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.1)
            session = Browser(root)._ask("", capabilities=wanted)["sessionId"]
            window = Browser(f"{root}/{session}")
            try:
                yield window
            finally:
                request = urllib.request.Request(window._address, method="DELETE")
                urllib.request.urlopen(request, timeout=30).close()
    finally:
        driver.terminate()
        driver.wait()
