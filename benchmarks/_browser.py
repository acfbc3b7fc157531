"""Chromium without a window, driven through chromedriver by its plain protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}


def find_chromium() -> tuple[str, str] | None:
    """Return the paths of the browser and of its driver, None without them."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Chromium:
    """A browser for the length of a ``with`` block."""

    def __init__(self, width: int = 1300, height: int = 900):
        found = find_chromium()
        if found is None:
            raise FileNotFoundError("needs chromium and chromedriver")
        self.browser, self.driver = found
        self.size = width, height

    def __enter__(self) -> Chromium:
        self.process = subprocess.Popen(
            [self.driver, "--port=0"], stdout=subprocess.PIPE, text=True
        )
        try:
            # "ChromeDriver was started successfully on port 41113."
            line = next(
                line for line in self.process.stdout if "successfully on port" in line
            )
            port = line.split("on port")[1].strip(" .\n")
            self.root = f"http://127.0.0.1:{port}/session"
            width, height = self.size
            options = {
                "binary": self.browser,
                "args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    f"--window-size={width},{height}",
                ],
            }
            asked = {"browserName": "chrome", "goog:chromeOptions": options}
            body = {"capabilities": {"alwaysMatch": asked}}
            self.root += f"/{self._call('', body)['sessionId']}"
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exception) -> None:
        try:
            self._call("", method="DELETE")
        finally:
            self._stop()

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def _call(self, path: str, body: dict | None = None, method: str | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, address: str | Path) -> None:
        """Open a file or an address, and wait until it is loaded."""
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        self._call("/url", {"url": url})

    def run(self, script: str, *arguments):
        """Run the body of a function in the page; what it returns may be a promise."""
        return self._call("/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self._call("/actions", {"actions": [source]})

    def click(self, selector: str) -> None:
        """Click the first element of a selector, as with a mouse."""
        found = self._call("/element", {"using": "css selector", "value": selector})
        (identifier,) = found.values()
        self._call(f"/element/{identifier}/click", {})

    def back(self) -> None:
        """Go back in the history."""
        self._call("/back", {})

    def prefer(self, scheme: str) -> None:
        """Set what the page hears of light and dark: "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        parameters = {"features": [feature]}
        body = {"cmd": "Emulation.setEmulatedMedia", "params": parameters}
        self._call("/goog/cdp/execute", body)

    def screen(self, width: int = 0, height: int = 0) -> None:
        """Lay pages out for a screen of another size; 0: that of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        parameters = {**size, "mobile": width > 0}
        body = {"cmd": "Emulation.setDeviceMetricsOverride", "params": parameters}
        self._call("/goog/cdp/execute", body)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows to a PNG file."""
        path.write_bytes(base64.b64decode(self._call("/screenshot")))
