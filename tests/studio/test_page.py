"""The page in a real browser."""

import numpy as np
import pytest
from PIL import Image
from tests.predict.making import arrays, bundle_of

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
    assert "no file or folder" in shown.get_by_role("alert").inner_text()
    assert page.elsewhere(running.address) == []
    assert page.complaints == []
    assert running.spoken_with() == []


def test_try__a_picture_is_shown_with_what_models_say(studio, page, tmp_path):
    bundle_of("segformer", tmp_path / "runs/one")
    Image.fromarray(np.asarray(arrays()[1])).save(tmp_path / "picture.png")
    running = studio("--runs", tmp_path / "runs")
    shown = page.open(running.address)
    page.tab("Try")
    shown.locator("#try-bundles .token").first.wait_for()  # the newest bundle, chosen by itself
    shown.locator("#try-picture input[type=file]").set_input_files(tmp_path / "picture.png")
    shown.locator("#try-picture img").wait_for()
    shown.locator("#try-start").click()
    answers = shown.locator("#try-answers .lm-card")
    answers.nth(1).wait_for()
    assert shown.locator("#try-answers h3").all_inner_texts() == ["base of one", "one"]
    with shown.expect_download() as download:
        shown.locator("#try-download").click()
    assert download.value.suggested_filename == "predictions.zip"
    assert page.elsewhere(running.address) == []
    assert page.complaints == []
    assert running.spoken_with() == []
