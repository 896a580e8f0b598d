"""A person's whole path: from a folder of pictures to an adapter, its mistakes, corrections, and predictions."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from tests.studio.made import made_run
from tests.studio.opened import PATIENCE, still

pytestmark = pytest.mark.slow
COLOURS = "lines => lines.map(line => getComputedStyle(line).stroke)"

SETTINGS = """train.batch_size=4
pictures.size=32
lora.r=2
data.near_duplicates_together=false
run.live_samples=2
train.rate=1e-6
train.head_rate=1e-6"""
"""Learns so little that there are mistakes to correct."""


def choose(page, name, text):
    """Type into a list that takes anything."""
    field = page.get_by_role("combobox", name=name)
    field.fill(text)
    field.press("Enter")


def wait_for(page, selector, text):
    page.locator(selector, has_text=text).first.wait_for(timeout=3 * PATIENCE)


def look_into(page, run):
    """Look for the mistakes of a run, once the list of runs has it."""
    expect(page.get_by_role("combobox", name="Run to look into")).to_have_value(run, timeout=PATIENCE)
    page.locator("#results-examine").click()


def test_studio__from_a_folder_to_predictions(studio, page, pictures, vit, tmp_path):
    data, runs = tmp_path / "colours", tmp_path / "runs"
    shutil.copytree(pictures / "classes", data)
    before = {path: path.read_bytes() for path in data.rglob("*.png")}
    running = studio("--runs", runs)
    shown = page.open(running.address)
    page.tab("Train")
    wait_for(shown, "#train-data", "No data are open")
    page.tab("Data")
    choose(shown, "Folder with pictures", str(data))
    shown.locator("#data-open").click()
    shown.locator("#data-samples img").first.wait_for()

    page.tab("Train")
    wait_for(shown, "#train-data", str(data))
    choose(shown, "Base", str(vit))
    shown.get_by_label("Epochs", exact=True).first.fill("2")
    shown.get_by_text("More choices").click()
    shown.get_by_label("Other settings").fill(SETTINGS)
    shown.locator("#train-begin").click()
    wait_for(shown, "#train-progress h2", "colours")
    assert page.complaints == []
    assert running.stop() in (0, -15)

    running = studio("--runs", runs)  # the training goes on without the page, and is found again
    shown = page.open(running.address)
    page.complaints.clear()  # the window of before has asked for a page that was gone
    page.tab("Train")
    wait_for(shown, "#train-progress h2", "is done")
    assert shown.locator("#train-progress svg").count() == 3
    assert (runs / "colours/bundle/lumora.json").is_file()

    page.tab("Results")
    wait_for(shown, "#results-table th", "colours")
    look_into(shown, "colours")
    shown.locator("#results-picture img").wait_for(timeout=3 * PATIENCE)
    key = shown.locator("#results-picture .lm-key").inner_text().replace("\n", "")
    choose(shown, "What it shows", "green")
    shown.locator("#results-save-label").click()
    wait_for(shown, "#results-notice", "corrections.jsonl")
    line = json.loads((tmp_path / "colours.corrections/corrections.jsonl").read_text())
    assert (line["sample"], line["labels"]) == (key, ["green"])
    assert {path: path.read_bytes() for path in data.rglob("*.png")} == before

    shown.locator("#results-epochs input, #results-epochs textarea").fill("1")
    shown.locator("#results-again").click()
    wait_for(shown, "#results-notice", "colours-again has begun")
    page.tab("Train")
    wait_for(shown, "#train-progress h2", "colours-again is done")
    wait_for(shown, "#train-progress .lm-notes", "corrections.jsonl")
    assert f"start_from: {runs}/colours/bundle" in (runs / "colours-again/recipe.yaml").read_text()

    page.tab("Try")
    shown.locator("#try-bundles .token").first.wait_for()  # the newest bundle, chosen by itself
    shown.locator("#try-picture input[type=file]").set_input_files(next(iter(before)))
    shown.locator("#try-picture img").wait_for()
    shown.locator("#try-start").click()
    wait_for(shown, "#try-answers h3", "colours-again")

    page.tab("Library")
    wait_for(shown, "#library-shelf th", "colours-again")
    wait_for(shown, "#library-card", "Image classification")
    assert page.elsewhere("http://127.0.0.1") == []
    assert page.complaints == []
    assert running.spoken_with() == []


def test_studio__a_correction_is_of_the_run_that_is_shown(studio, page, labelled_run, pictures, vit, tmp_path):
    shutil.copytree(pictures / "classes", tmp_path / "others")
    made_run(tmp_path / "others", vit, tmp_path / "runs/others")  # with samples of the same names
    running, colours = studio("--runs", labelled_run.parent), set()
    shown = page.open(running.address)
    page.tab("Results")
    wait_for(shown, "#results-table th", "others")
    for run in ("lm-run-0", "lm-run-1"):  # a run's colour is the same in the table and in the charts
        strokes = shown.locator(f".lm-stroke.{run} .line, .lm-chart .{run} .line").evaluate_all(COLOURS)
        assert len(strokes) > 2 and len(set(strokes)) == 1
        colours.add(strokes[0])
    assert len(colours) == 2
    choose(shown, "Run to look into", "colours")
    look_into(shown, "colours")
    shown.locator("#results-picture img").wait_for(timeout=3 * PATIENCE)
    choose(shown, "Run to look into", "others")
    expect(shown.get_by_role("combobox", name="Run to look into")).to_have_value("others", timeout=PATIENCE)
    choose(shown, "What it shows", "green")
    shown.locator("#results-save-label").click()
    wait_for(shown, "#results-notice", "colours.corrections")
    assert not (tmp_path / "others.corrections").exists()


def test_studio__a_mask_is_corrected_by_keyboard_and_painted(studio, page, masked_run, tmp_path):
    runs = masked_run.parent
    running = studio("--runs", runs)
    shown = page.open(running.address)
    page.tab("Results")
    wait_for(shown, "#results-table th", "places")
    look_into(shown, "places")
    shown.locator("#results-picture img").first.wait_for(timeout=3 * PATIENCE)
    assert shown.locator("#results-picture img").count() == 3
    choose(shown, "becomes", "counts nowhere")
    shown.locator("#results-save-swap").focus()
    shown.keyboard.press("Enter")
    wait_for(shown, "#results-notice", "corrections.jsonl")
    [first] = (tmp_path / "places.corrections/masks").glob("*.png")
    was, before = first.read_bytes(), np.asarray(Image.open(first))

    shown.get_by_text("Paint on the mask").click()
    canvas = shown.locator("#results-editor canvas").first
    canvas.wait_for()
    shown.wait_for_timeout(1500)  # the picture comes once the editor is open
    still(shown)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.mouse.down()
    shown.mouse.move(box["x"] + box["width"] / 2 + 20, box["y"] + box["height"] / 2 + 10, steps=5)
    shown.mouse.up()
    file = tmp_path / "places.corrections/corrections.jsonl"
    for _ in range(60):  # what was painted reaches the page's server a moment later
        shown.locator("#results-save-paint").click()
        shown.wait_for_timeout(2000)
        if len(file.read_text().splitlines()) > 1:
            break
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) > 1
    assert {line["sample"] for line in lines} == {lines[0]["sample"]}
    assert first.read_bytes() != was
    changed = np.asarray(Image.open(first)) != before
    assert 0 < changed.mean() < 0.5
    assert len(set(np.asarray(Image.open(first))[changed])) == 1
