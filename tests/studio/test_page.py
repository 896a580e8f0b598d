"""The page in a real browser."""

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from tests.predict.making import arrays, bundle_of
from tests.studio.opened import PATIENCE, still

pytestmark = pytest.mark.slow


def test_data__a_folder_is_opened_looked_at_and_examined(studio, page, pictures):
    running = studio(pictures / "classes")
    shown = page.open(running.address)
    shown.locator("#data-samples img").first.wait_for()
    assert shown.locator("#data-summary h2").inner_text() == str(pictures / "classes")
    assert all(shown.locator("#data-samples img").nth(i).get_attribute("alt") for i in range(3))

    shown.get_by_role("combobox", name="Class").click()
    shown.get_by_role("option", name="green").click()
    shown.locator("#data-samples li", has_text="red").first.wait_for(state="detached")
    assert set(shown.locator("#data-samples .lm-said").all_inner_texts()) == {"green"}

    shown.locator("#data-examine").click()
    shown.locator("#data-findings h2").wait_for()

    shown.get_by_role("combobox", name="Folder with pictures").fill("/nowhere/at/all")
    shown.keyboard.press("Enter")
    shown.locator("#data-open").click()
    alert = shown.locator("#data-notice [role=alert]")
    alert.wait_for()
    shown.wait_for_timeout(1500)  # whatever might follow has come
    still(shown)
    assert "no file or folder" in alert.inner_text()
    assert shown.locator("#data-samples img").count()
    page.tab("Train")
    assert shown.locator("#train-data").inner_text() == f"Trains on {pictures / 'classes'}"
    assert page.elsewhere(running.address) == []
    assert page.complaints == []
    assert running.spoken_with() == []


def test_data__masks_are_more_opaque_as_an_arrow_is_pressed(studio, page, pictures):
    shown = page.open(studio(pictures / "masked").address)
    picture = shown.locator("#data-samples img").first
    picture.wait_for()
    still(shown)
    before = picture.get_attribute("src")
    shown.locator("#data-opacity input[type=range]").focus()
    shown.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before, timeout=PATIENCE)


def test_try__a_picture_is_shown_with_what_models_say(studio, page, tmp_path):
    bundle_of("segformer", tmp_path / "runs/one")
    Image.fromarray(np.asarray(arrays()[1])).save(tmp_path / "picture.png")
    (tmp_path / "temporary").mkdir()
    running = studio("--runs", tmp_path / "runs", TMPDIR=str(tmp_path / "temporary"))
    shown = page.open(running.address)
    page.tab("Try")
    shown.locator("#try-bundles .token").first.wait_for()  # the newest bundle, chosen by itself
    for name in ("strength", "opacity"):  # passed by keyboard, and nothing is asked
        shown.locator(f"#try-{name} input[type=range]").focus()
    shown.locator("#try-start").focus()
    still(shown)
    assert shown.locator("#try-notice .lm-notice").count() == 0
    shown.locator("#try-picture input[type=file]").set_input_files(tmp_path / "picture.png")
    shown.locator("#try-picture img").wait_for()
    shown.locator("#try-start").click()
    answers = shown.locator("#try-answers .lm-card")
    answers.nth(1).wait_for()
    assert shown.locator("#try-answers h3").all_inner_texts() == ["base of one", "one"]

    drawn = answers.nth(1).locator("img")
    before = drawn.get_attribute("src")
    shown.locator("#try-opacity input[type=range]").focus()
    shown.keyboard.press("ArrowRight")
    expect(drawn).not_to_have_attribute("src", before, timeout=PATIENCE)
    shown.locator("#try-strength input[type=range]").focus()
    shown.keyboard.press("ArrowRight")
    expect(answers.nth(1)).to_contain_text("strength 1.05", timeout=PATIENCE)

    written = "lumora-studio-*/tmp*/predictions.zip"
    assert list((tmp_path / "temporary").rglob("*.zip")) == []  # nobody has asked for it yet
    fetched: list[bytes] = []
    for _ in range(2):
        with shown.expect_download() as download:
            shown.locator("#try-download").click()
        assert download.value.suggested_filename == "predictions.zip"
        [archive] = (tmp_path / "temporary").glob(written)
        fetched.append(download.value.path().read_bytes())
        assert archive.read_bytes() == fetched[-1]
        before = drawn.get_attribute("src")
        shown.locator("#try-opacity input[type=range]").focus()
        shown.keyboard.press("ArrowRight")
        expect(drawn).not_to_have_attribute("src", before, timeout=PATIENCE)
    assert fetched[0] != fetched[1]  # each as it was seen
    assert page.elsewhere(running.address) == []
    assert page.complaints == []
    assert running.spoken_with() == []
