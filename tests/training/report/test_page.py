"""The report in a real browser: everything is there, nothing is asked of a network, and it can be read by everyone."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

import pytest
from tests.browser import Browser
from tests.training.report.making import made_run, source

from lumora.data import ade20k
from lumora.training.report import write_report

EVIL = (
    "<script>alert('a')</script>",
    '"quoted" & <b>bold</b>',
    "قطة صغيرة",
    "猫",
    "a-very-long-name-without-any-place-to-break-it-" * 3,
    "{{ 7 * 7 }} {% endif %}",
    "]]> --> </style></title>",
    "🦊 fox",
)
SECTIONS = ["course", "results", "data", "notes", "recipe", "use"]
KINDS = {
    "two classes": ("classification", ("cat", "dog"), 40),
    "150 classes": ("classification", ade20k().names, 900),
    "evil names": ("classification", EVIL, 60),
    "evil masks": ("segmentation", EVIL, 12),
    "masks of 150 classes": ("segmentation", ade20k().names, 60),
    "several labels": ("multilabel", ("sky", "sea", "sand", "ship"), 40),
    "no validation": ("classification", ("cat", "dog"), 0),
}
EACH = [pytest.param(kind, marks=pytest.mark.slow) if "150" in kind else kind for kind in KINDS]
CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = c => {
    const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const paper = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] > 250) return c;
    }
    return rgba('white');
  };
  const poor = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()) || e.closest('.skip, title')) continue;
    const style = getComputedStyle(e);
    const ink = light(rgba(e.closest('svg') ? style.fill : style.color)), ground = light(paper(e));
    const ratio = (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
    if (ratio < 4.5) poor.add(`${e.tagName}.${e.className.baseVal ?? e.className} ${ratio.toFixed(2)}`);
  }
  return [...poor];
})()
"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Makes the report of one of the kinds, once."""
    made = {}

    def of(kind):
        if kind not in made:
            task, names, validation = KINDS[kind]
            data = source(task, names, validation, train=max(60, 2 * len(names)))
            run, base = made_run(tmp_path_factory.mktemp("made") / "run", data)
            made[kind] = write_report(run.path, data, base)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", EACH)
def test_page__is_whole_and_asks_for_nothing_on_any_screen(browser, page, kind, tmp_path):
    for width, height in ((1280, 900), (390, 844)):
        browser.open(page(kind), width, height)
        assert browser.complaints == []
        assert [address for address in browser.requests if not address.startswith("data:")] == [page(kind).as_uri()]
        assert browser.run("document.documentElement.scrollWidth") == width
        assert browser.run("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
        assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        browser.screenshot(tmp_path / "shot.png")
        assert (tmp_path / "shot.png").stat().st_size > 20_000
    assert browser.run("document.scripts.length") == 0
    assert page(kind).stat().st_size < 3_000_000


@pytest.mark.parametrize("kind", EACH)
def test_page__can_be_read_by_everyone(browser, page, kind):
    browser.open(page(kind))
    assert browser.run("document.documentElement.lang") == "en"
    assert browser.run("[...document.images].every(i => i.alt.trim())")
    assert browser.run("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert browser.run("[...document.querySelectorAll('table')].every(t => t.querySelector('thead th[scope=col]'))")
    scrolled = "[...document.querySelectorAll('.scroll')]"
    assert browser.run(f"{scrolled}.every(s => s.tabIndex == 0 && s.role == 'region')")
    named = "s.ariaLabel || document.getElementById(s.getAttribute('aria-labelledby'))"
    assert browser.run(f"{scrolled}.every(s => {named})")
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = browser.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert browser.run("[...document.querySelectorAll('a')].every(a => document.querySelector(a.getAttribute('href')))")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", ["two classes", "several labels", "evil masks"])
def test_page__has_letters_that_stand_out(browser, page, kind, dark):
    browser.open(page(kind), dark=dark)
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (int(paper.split("(")[1].split(",")[0]) < 60) == dark
    assert browser.run(CONTRAST) == []


@pytest.mark.parametrize("kind", ["evil names", "evil masks"])
def test_page__shows_names_as_they_are(browser, page, kind):
    browser.open(page(kind))
    shown = browser.run("[...document.querySelectorAll('.classes th[scope=row]')].map(h => h.textContent.trim())")
    assert set(EVIL) <= set(shown)
    assert browser.run("document.title").endswith("– training report")
    assert browser.run("document.querySelectorAll('main b b, main script').length") == 0


@pytest.mark.slow
def test_page__of_150_classes_has_names_beside_all_of_them(browser, page):
    browser.open(page("150 classes"))
    assert browser.run("document.querySelectorAll('.matrix tbody tr').length") == 150
    assert browser.run("[...document.querySelectorAll('.matrix tbody tr')].every(r => r.cells.length == 151)")
    sizes = browser.run(
        "[...document.querySelectorAll('.matrix tbody th')].map(h => parseFloat(getComputedStyle(h).fontSize))"
    )
    assert min(sizes) >= 10
    heights = browser.run(
        "[...document.querySelectorAll('.matrix tbody th')].map(h => h.getBoundingClientRect().height)"
    )
    assert min(heights) >= 10
    # Names stay beside the cells when the table is scrolled to its end.
    browser.run("(s => s.scrollTo(s.scrollWidth, s.scrollHeight))(document.querySelector('.scroll:has(.matrix)'))")
    left = browser.run(
        "[document.querySelector('.scroll:has(.matrix)'), document.querySelector('.matrix tbody tr:last-child th')]"
        ".map(e => e.getBoundingClientRect().left)"
    )
    assert left[0] == left[1]


def test_page__says_so_where_nothing_was_measured(browser, page):
    browser.open(page("no validation"))
    text = browser.run("document.body.innerText")
    assert "There were no pictures for validation" in text
    assert browser.run("document.querySelectorAll('.matrix, .scores').length") == 0


def test_page__tells_of_the_run(browser, page):
    browser.open(page("two classes"))
    text = browser.run("document.body.innerText")
    assert "accuracy on 40 pictures for validation; 20.0 % before the training".lower() in text.lower()
    assert "2 min 5 s" in text
    assert "the head alone" in text
    assert text.count("All went well.") == 1
    assert "They are drawn." in text
    rows = browser.run(
        "[...document.querySelectorAll('.recipe tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert ["train.epochs", "2", "asked", "asked for"] in rows
    assert ["lora.targets", "a,b<b>c", "asked", "asked for"] in rows
    charts = browser.run("[...document.querySelectorAll('.chart svg')].map(s => s.getAttribute('aria-label'))")
    assert charts == [
        "Loss: 1.5 after epoch 1, 0.75 after epoch 2.",
        "Accuracy: 20.0 % after epoch 0, 80.0 % after epoch 2.",
        "Learning rate: 0.0001 after epoch 0, 0 after epoch 2.",
    ]


class Strict(HTMLParser):
    """Notes whether every element that must be closed is, in the right order."""

    OPEN = frozenset("meta link img br wbr input hr".split())
    OPTIONAL = frozenset(("td", "li", "p"))

    def __init__(self):
        super().__init__()
        self.stack, self.wrong = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "td" and self.stack[-1:] == ["td"]:
            self.stack.pop()
        if tag not in self.OPEN:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Closed at once."""

    def handle_endtag(self, tag):
        if tag == "tr" and self.stack[-1:] == ["td"]:
            self.stack.pop()
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append((tag, self.getpos()))


@pytest.mark.parametrize("kind", ["evil names", "evil masks", "several labels", "no validation"])
def test_page__is_well_formed(page, kind):
    parser = Strict()
    parser.feed(page(kind).read_text(encoding="utf-8"))
    assert parser.wrong == []
    assert parser.stack == []
