"""A headless Chromium driven over --remote-debugging-pipe, by the standard library alone: real
mouse and key events, and screenshots.
"""

import base64
import json
import os
import select
import subprocess
import sys
import time

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
# the browser reads commands from file 3 and writes to file 4
START = """
import os, sys
read, write = (os.dup(int(number)) for number in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.set_inheritable(3, True), os.set_inheritable(4, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
CODES = {" ": "Space", ",": "Comma", ".": "Period", "[": "BracketLeft", "]": "BracketRight"}
NUMBERS = {"Enter": 13, "Escape": 27, "Delete": 46, "Backspace": 8, "ArrowLeft": 37}
NUMBERS |= {"ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "PageUp": 33, "PageDown": 34}
ALT, CONTROL, SHIFT = 1, 2, 8
PATIENCE = 20  # seconds in which the browser has to answer


class Chromium:
    """A browser with one page, as a context manager. What the page reports as errors is in
    `errors`.
    """

    def __init__(self, binary, profile, size=(1280, 800)):
        command_in, self._commands = os.pipe()
        self._answers, answer_out = os.pipe()
        command = [sys.executable, "-S", "-c", START, str(command_in), str(answer_out)]
        command += [binary, *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            command,
            pass_fds=(command_in, answer_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_in)
        os.close(answer_out)
        self._buffer, self._number, self.errors, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(*size)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the browser, as a crash would: nothing is said to the page."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in (self._commands, self._answers):
            os.close(file)

    def call(self, method, **arguments):
        """A command of the DevTools protocol -> its result."""
        number = self._send(method, **arguments)
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _send(self, method, **arguments):
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._number

    def _next(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        about = event.get("params", {})
        if event.get("method") == "Page.javascriptDialogOpening":
            self._send("Page.handleJavaScriptDialog", accept=True)
        if event.get("method") == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", details).get("description", "?"))
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def errors_besides_offline(self):
        """Errors, but for those of requests while no server was there."""
        return [text for text in self.errors if "ERR_CONNECTION" not in text]

    # ------------------------------------------------------------------------------ the page

    def resize(self, width, height, scale=1):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.wait("document.body && document.body.dataset.ready === 'yes'")

    def value(self, expression):
        """What a JavaScript expression gives, promises awaited."""
        done = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, expression, seconds=15):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never: {expression}; errors: {self.errors}"
            time.sleep(0.02)

    def picture(self):
        """A screenshot, PNG bytes."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    # -------------------------------------------------------------------- mouse and keyboard

    def mouse(self, kind, x, y, button="left", count=1, **more):
        pressed = {"left": 1, "right": 2, "middle": 4, "none": 0}[button]
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=pressed if kind != "mouseReleased" else 0,
            clickCount=count,
            **more,
        )

    def click(self, x, y):
        self.mouse("mouseMoved", x, y, "none", 0)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def drag(self, start, end, button="left"):
        """Press at a place, move in three steps, release at another."""
        self.mouse("mouseMoved", *start, "none", 0)
        self.mouse("mousePressed", *start, button)
        for part in (0.4, 0.8, 1):
            place = [a + part * (b - a) for a, b in zip(start, end, strict=True)]
            self.mouse("mouseMoved", *place, button)
        self.mouse("mouseReleased", *end, button)

    def wheel(self, x, y, down):
        self.mouse("mouseWheel", x, y, "none", 0, deltaX=0, deltaY=down)

    def press(self, *keys, modifiers=0):
        """Press keys, one after the other, as a keyboard with an English layout would."""
        for key in keys:
            code = CODES.get(key, key)
            if len(key) == 1 and key.isalnum():
                code = f"Digit{key}" if key.isdigit() else f"Key{key.upper()}"
            number = NUMBERS.get(key, ord(key[0].upper()))
            about = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            about["modifiers"] = modifiers
            text = {} if len(key) > 1 or modifiers & ~SHIFT else {"text": key}
            if key == "Enter":
                text = {"text": "\r"}
            kind = "keyDown" if text else "rawKeyDown"
            self.call("Input.dispatchKeyEvent", type=kind, **about, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text):
        self.call("Input.insertText", text=text)
