"""The page without eyes, without a mouse, on a telephone, in the dark."""

import pytest
from playwright.sync_api import expect
from tests.studio.opened import PATIENCE, still

pytestmark = pytest.mark.slow

TABS = ("Data", "Train", "Results", "Try", "Library")
KNOWN = {
    # Gradio's own: lists of choices point at a list that is not there while they are closed.
    "aria-valid-attr-value",
}
"""What axe says of Gradio's parts, which is not ours to mend."""
NAMED = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"


@pytest.fixture
def running(studio, labelled_run, tmp_path):
    return studio(tmp_path / "colours", "--runs", labelled_run.parent)


def ready(shown, name):
    """Wait until a tab shows what it has to show."""
    waited = {
        "Data": "#data-samples img",
        "Train": "#train-progress svg",
        "Results": "#results-table svg",
        "Try": "#try-bundles input",
        "Library": "#library-card h1",
    }
    shown.locator(waited[name]).first.wait_for()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1440, 390])
def test_tabs__fit_the_width_and_axe_finds_nothing(running, page, width, dark):
    shown = page.open(running.address, width, dark=dark)
    found = []
    for name in TABS:
        page.tab(name) if shown.get_by_role("tab", name=name, exact=True).is_visible() else more(shown, name)
        ready(shown, name)
        assert fits(shown, width), name
        found += [(name, *each) for each in violations(shown)]
    assert found == []


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_answers__axe_finds_nothing(running, page, vit, pictures, width, dark):
    """What appears only when it is asked for."""
    shown = page.open(running.address, width, dark=dark)

    def go_to(name):
        page.tab(name) if shown.get_by_role("tab", name=name, exact=True).is_visible() else more(shown, name)
        ready(shown, name)

    ready(shown, "Data")
    shown.locator("#data-examine").click()
    shown.locator("#data-findings h2").wait_for(timeout=3 * PATIENCE)
    found = violations(shown, "#data-summary", "#data-samples", "#data-findings")
    assert fits(shown, width)
    go_to("Train")
    base = shown.get_by_role("combobox", name="Base")
    base.fill(str(vit))
    base.press("Enter")
    shown.locator("#train-size input, #train-size textarea").fill("32")
    shown.locator("#train-plan-it").click()
    shown.locator("#train-plan summary").click(timeout=3 * PATIENCE)
    found += violations(shown, "#train-plan", "#train-progress")
    assert fits(shown, width)
    go_to("Results")
    shown.locator("#results-examine").click()
    shown.locator("#results-picture img").first.wait_for(timeout=3 * PATIENCE)
    found += violations(shown, "#results-table", "#results-summary", "#results-picture")
    assert fits(shown, width)
    go_to("Try")
    shown.locator("#try-bundles .token").first.wait_for()  # the newest bundle, chosen by itself
    shown.locator("#try-picture input[type=file]").set_input_files(next((pictures / "classes").rglob("*.png")))
    shown.locator("#try-picture img").wait_for()
    shown.locator("#try-start").click()
    shown.locator("#try-answers .lm-card").first.wait_for(timeout=3 * PATIENCE)
    found += violations(shown, "#try-answers")
    assert fits(shown, width)
    assert found == []


@pytest.mark.parametrize(("width", "dark"), [(1440, True), (390, False)])
def test_mistakes_of_masks__fit_the_width_and_axe_finds_nothing(studio, page, masked_run, width, dark):
    shown = page.open(studio("--runs", masked_run.parent).address, width, dark=dark)
    page.tab("Results")
    expect(shown.get_by_role("combobox", name="Run to look into")).to_have_value("places", timeout=PATIENCE)
    shown.locator("#results-examine").click()
    shown.locator("#results-summary .lm-matrix").wait_for(timeout=3 * PATIENCE)
    shown.locator("#results-picture img").first.wait_for()
    assert violations(shown, "#results-table", "#results-split", "#results-summary", "#results-picture") == []
    assert fits(shown, width)


@pytest.mark.parametrize("dark", [False, True])
def test_editor__colours_are_called_as_their_classes_and_chosen_by_keyboard(studio, page, masked_run, dark):
    shown = page.open(studio("--runs", masked_run.parent).address, dark=dark)
    page.tab("Results")
    expect(shown.get_by_role("combobox", name="Run to look into")).to_have_value("places", timeout=PATIENCE)
    shown.locator("#results-examine").click()
    shown.locator("#results-picture img").first.wait_for(timeout=3 * PATIENCE)
    shown.get_by_text("Paint on the mask").click()
    editor = shown.locator("#results-editor")
    editor.locator("canvas").first.wait_for()
    still(shown)
    editor.get_by_role("button", name="Color", exact=True).focus()
    shown.keyboard.press("Enter")
    for name in ("rest", "red", "green", "counts nowhere"):
        editor.get_by_role("button", name=name, exact=True).wait_for()
    red, rest = (editor.get_by_role("button", name=name, exact=True) for name in ("red", "rest"))
    assert "128, 0, 0" in red.get_attribute("style")
    rest.focus()
    shown.keyboard.press("Tab")
    assert shown.evaluate(NAMED) == "red"
    shown.keyboard.press("Enter")
    expect(red).to_have_attribute("aria-pressed", "true")
    expect(rest).to_have_attribute("aria-pressed", "false")
    assert violations(shown, "#results-editor", "#results-legend") == []
    assert page.complaints == []


def fits(shown, width):
    """Whether the page is no wider than its window."""
    return shown.evaluate("document.documentElement.scrollWidth") <= width


def violations(shown, *places):
    """What axe finds wrong with the page, or with these places in it, once colours do not change any more."""
    from axe_playwright_python.sync_playwright import Axe

    still(shown)
    where = {"include": [[place] for place in places]} if places else None
    found = [each for each in Axe().run(shown, where).response["violations"] if each["id"] not in KNOWN]
    return [(each["id"], node["html"][:160]) for each in found for node in each["nodes"]]


def more(shown, name):
    """Choose a tab from the menu that holds those without room."""
    shown.locator(".overflow-menu > button").first.click()
    shown.locator(".overflow-dropdown button", has_text=name).click()


def test_tabs__are_reached_by_keyboard(running, page):
    shown = page.open(running.address)
    ready(shown, "Data")
    shown.get_by_role("tab", name="Data", exact=True).focus()
    for name in TABS[1:]:
        assert name in passed(shown, 60, until=name)
        shown.keyboard.press("Enter")
        ready(shown, name)
    seen = passed(shown, 100)
    assert {"Bundles", "Bundle"} <= set(seen)
    assert any(name.startswith("Merge into a plain checkpoint") for name in seen)


def passed(shown, most, until=None):
    """What the focus comes to, by its names, as Tab is pressed again and again."""
    names = []
    while len(names) < most and (until is None or until not in names):
        shown.keyboard.press("Tab")
        names.append(shown.evaluate(NAMED))
    return names
