"""Browses a page of `adze explain --dump html` in headless Chromium: python3 page.py PAGE [SCREENSHOT].

Talks to chromedriver in its own protocol (W3C WebDriver), so nothing but Debian's chromium and chromium-driver is needed.
"""

import base64
import json
import pathlib
import re
import subprocess
import sys
import urllib.request


class Browser:
    def __init__(self, base):
        self.base = base
        options = {"args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1500,900"]}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = self.call("POST", "/session", wanted)["sessionId"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def do(self, path, body):
        return self.call("POST", f"/session/{self.session}{path}", body)

    def run(self, script, *arguments):
        return self.do("/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, selector):
        return next(iter(self.do("/element", {"using": "css selector", "value": selector}).values()))

    def click(self, selector):
        self.do(f"/element/{self.element(selector)}/click", {})

    def type(self, selector, text):
        self.do(f"/element/{self.element(selector)}/value", {"text": text})

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)


def check(browser, url):
    browser.do("/url", {"url": url})
    data = json.loads(browser.run("return document.getElementById('data').textContent"))
    classes, steps = data["classes"], data["steps"]
    assert classes and steps, "the region has classes and rewrites"
    assert browser.texts("#title") == [data["title"]]
    assert len(browser.texts("#classes li")) == len(classes), "every class is listed"
    assert len(browser.texts("#steps li")) == len(steps), "every rewrite is listed"

    # Searching for an operator, then for a class by its number.
    word = re.match(r"[a-z_]+", classes[data["roots"][0]]["nodes"][0]["op"]).group()
    browser.type("#search", word)
    found = browser.texts("#classes li")
    assert 0 < len(found) < len(classes), f"searching `{word}` finds {len(found)} of {len(classes)}"
    several = next(n for n, of in enumerate(classes) if len(of["nodes"]) > 1 and any(node["taken"] for node in of["nodes"]))
    browser.run("document.getElementById('search').value = ''")
    browser.type("#search", f"%{several}")
    assert len(browser.texts("#classes li")) == 1

    # Clicking shows its e-nodes, with the one that was taken marked and every cost said.
    browser.click("#classes li button")
    nodes = classes[several]["nodes"]
    assert len(browser.texts("#detail .node")) == len(nodes)
    taken = [node for node in nodes if node["taken"]]
    marked = browser.texts("#detail .node.taken code")
    assert marked == [node["op"] for node in taken], f"{marked} is marked"
    words = " ".join(browser.texts("#detail .node")).replace("\u00a0", " ")
    for node in nodes:
        grouped = f"{node['cost']:,}".replace(",", " ") if node["cost"] is not None else ""
        assert grouped in words, f"the cost {grouped} of {node['op']} is not in {words}"

    # From a taken e-node to its rewrite, from there on through an operand.
    made = next((n, node) for n, of in enumerate(classes) for node in of["nodes"] if node["by"] is not None)
    browser.run("location.hash = arguments[0]", f"c{made[0]}")
    browser.click("#detail button[data-go=step]")
    assert browser.run("return location.hash") == f"#s{made[1]['by']}"
    assert steps[made[1]["by"]]["rule"] in browser.texts("#steps pre")[0]
    browser.click("#detail button[data-go=class]")
    assert browser.run("return location.hash").startswith("#c")
    browser.click("#only-taken")
    assert len(browser.texts("#steps li")) == sum(step["taken"] for step in steps)
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth"), "it fits the window"


def main():
    page = pathlib.Path(sys.argv[1]).resolve()
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = next(found.group(1) for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        browser = Browser(f"http://127.0.0.1:{port}")
        try:
            check(browser, page.as_uri())
            if len(sys.argv) > 2:
                picture = browser.call("GET", f"/session/{browser.session}/screenshot")
                pathlib.Path(sys.argv[2]).write_bytes(base64.b64decode(picture))
        finally:
            browser.call("DELETE", f"/session/{browser.session}")
    finally:
        driver.terminate()
        driver.wait()


main()
