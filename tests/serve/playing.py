"""The playground used as a person uses it, in a real browser."""

from __future__ import annotations

import base64

from tests.browser import Browser
from tests.serve.running import until


def choose(browser: Browser, bundle: str, picture: bytes, kind: str = "png") -> None:
    """Choose a bundle and a picture, and wait for the answer."""
    until(lambda: browser.run("document.querySelectorAll('#bundle option').length"))
    text = base64.b64encode(picture).decode()
    browser.run(
        f"""(() => {{
            document.getElementById("bundle").value = {bundle!r};
            const bytes = Uint8Array.from(atob({text!r}), c => c.charCodeAt(0)), files = new DataTransfer();
            files.items.add(new File([bytes], "picture.{kind}", {{ type: "image/{kind}" }}));
            const input = document.getElementById("picture");
            input.files = files.files;
            input.dispatchEvent(new Event("change"));
        }})()"""
    )
    until(lambda: not browser.run("document.getElementById('message').textContent.startsWith('Looking')"))


def said(browser: Browser) -> dict[str, object]:
    """What the page shows of the answer."""
    return browser.run(
        """({
            shown: !document.getElementById("result").hidden,
            title: document.getElementById("said").textContent,
            message: document.getElementById("message").textContent,
            bars: [...document.querySelectorAll(".bar span:first-child")].map(one => one.textContent),
            mask: !document.getElementById("mask").hidden,
            wide: document.documentElement.scrollWidth > innerWidth,
        })"""
    )
