"""A headless Chromium for tests, driven by its command line alone."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "chromium-headless-shell",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
NO_BROWSER = (
    "no Chromium found: install one (Debian: apt-get install chromium-headless-shell; "
    "or playwright install "
    "chromium), or set CHROMIUM to its path"
)
# Goes first into a copy of the page; what it has seen stands in the document at the end.
PROBE = """<script>
const seen = {errors: [], images: []};
const note = event => seen.errors.push(String(event.message || event.target.outerHTML).slice(0, 200));
window.addEventListener("error", note, true);
console.error = (...words) => seen.errors.push(words.join(" "));
window.addEventListener("load", () => {
  for (const image of document.images) seen.images.push([image.naturalWidth, image.naturalHeight, image.clientWidth]);
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.width = document.documentElement.clientWidth;
  seen.fetched = performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !/^data:/.test(name));
  const node = document.createElement("pre");
  node.id = "probe";
  node.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(seen))));
  document.body.append(node);
});
</script>"""


def find_chromium():
    """Path of a Chromium: $CHROMIUM, on the PATH, or playwright's; None."""
    if os.environ.get("CHROMIUM"):
        return os.environ["CHROMIUM"]
    for name in NAMES:
        if shutil.which(name):
            return shutil.which(name)
    cache = Path(
        os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright")
    )
    found = [
        path
        for name in ("headless_shell", "chrome-headless-shell", "chrome")
        for path in sorted(cache.glob(f"chromium*/*/{name}"))
    ]
    return str(found[-1]) if found else None


def open_page(browser, page, folder, width=1280):
    """Open an HTML file -> what the probe saw: errors, images [natural width, height, shown
    width], wide (pixels that stick out of a window of `width`), fetched (addresses besides
    data:).
    """
    copy = Path(folder) / "probed.html"
    text = Path(page).read_text(encoding="utf-8")
    copy.write_text(
        re.sub(r"<head>", lambda _: "<head>" + PROBE, text, count=1), encoding="utf-8"
    )
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={width},900",
            "--virtual-time-budget=20000",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}/profile",
            "--dump-dom",
            copy.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    found = re.search(r'<pre id="probe">([^<]+)</pre>', done.stdout)
    assert found, f"the page was not loaded: {done.stderr[-500:]}"
    return json.loads(base64.b64decode(found[1]))
