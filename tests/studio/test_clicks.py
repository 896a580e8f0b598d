"""What is pressed on the page, tab by tab."""

import json
import os
import signal

import pytest
from playwright.sync_api import expect
from tests.hub_server import TOKEN, serving
from tests.studio.made import made_run
from tests.studio.opened import PATIENCE, still
from tests.studio.test_trainings import LONG

from lumora.data import open_source
from lumora.studio.trainings import Trainings, worker

pytestmark = pytest.mark.slow


@pytest.fixture
def long_training(tmp_path, pictures, vit):
    """The folder of a training that has begun, and would not end by itself."""
    trainings = Trainings(tmp_path / "runs")
    training = trainings.begin(str(pictures / "classes"), {**LONG, "base.name": str(vit)})
    yield training.folder
    for process in (
        worker(training.folder),
        *(child.pid for child in trainings._children.values() if not child.poll()),
    ):
        if process is not None:
            os.kill(process, signal.SIGKILL)
    for child in trainings._children.values():
        child.wait()


def test_train__is_stopped_and_gone_on_with(studio, page, long_training):
    shown = page.open(studio("--runs", long_training.parent).address)
    page.tab("Train")
    heading, live = shown.locator("#train-progress h2"), shown.locator("#train-live")
    live.get_by_role("progressbar").wait_for(timeout=3 * PATIENCE)
    expect(live).to_contain_text("of 300,000")
    before = live.inner_text()
    expect(live).not_to_have_text(before, timeout=PATIENCE)
    # Curves and samples come as it goes: others after the next evaluation.
    expect(shown.locator("#train-progress svg")).not_to_have_count(0, timeout=PATIENCE)
    samples = shown.locator("#train-progress .lm-samples")
    first = samples.get_attribute("alt", timeout=PATIENCE)
    expect(samples).not_to_have_attribute("alt", first, timeout=PATIENCE)
    assert samples.evaluate("image => image.decode().then(() => image.naturalWidth)") > 32
    expect(heading).to_contain_text("is running")
    shown.locator("#train-stop").click()
    expect(heading).to_contain_text("was stopped", timeout=PATIENCE)
    expect(shown.locator("#train-stop")).to_be_disabled()
    assert not live.is_visible()
    shown.locator("#train-resume").click()
    expect(heading).to_contain_text("is running", timeout=3 * PATIENCE)
    live.get_by_role("progressbar").wait_for(timeout=3 * PATIENCE)
    assert page.complaints == []


def test_train__stopped_at_the_beginning_is_taken_off_the_list(studio, page, pictures, vit, tmp_path):
    shown = page.open(studio(pictures / "classes", "--runs", tmp_path / "runs").address)
    shown.locator("#data-samples img").first.wait_for()
    page.tab("Train")
    shown.locator("#train-begin").click()
    shown.locator("#train-stop:not([disabled])").click()
    heading = shown.locator("#train-progress h2")
    expect(heading).to_contain_text("nothing was written yet", timeout=3 * PATIENCE)
    expect(shown.locator("#train-resume")).to_be_enabled()
    shown.locator("#train-forget").click()
    expect(shown.locator("#train-progress")).to_contain_text("No training was begun yet", timeout=PATIENCE)
    assert not shown.locator("#train-forget").is_visible()
    assert page.complaints == []


def test_results__mistakes_in_the_pictures_for_training_are_found_and_corrected(
    studio, page, labelled_run, vit, tmp_path
):
    data = tmp_path / "colours"
    shown = page.open(studio("--runs", labelled_run.parent).address)
    page.tab("Results")
    expect(shown.get_by_role("combobox", name="Run to look into")).to_have_value("colours", timeout=PATIENCE)
    shown.get_by_role("radio", name="Training").check()
    shown.locator("#results-examine").click()
    summary = shown.locator("#results-summary")
    expect(summary).to_contain_text("pictures for training", timeout=3 * PATIENCE)
    expect(summary).to_contain_text("learnt these pictures by heart")
    shown.get_by_role("radio", name="likely wrong labels first").check()
    still(shown)
    which = shown.get_by_role("combobox", name="Mistake", exact=True)
    assert which.input_value().startswith("1. ")
    label = shown.get_by_role("combobox", name="What it shows")
    label.fill("green")
    label.press("Enter")
    shown.locator("#results-save-label").click()
    shown.locator("#results-notice", has_text="corrections.jsonl").wait_for(timeout=PATIENCE)
    line = json.loads((tmp_path / "colours.corrections/corrections.jsonl").read_text())
    splits = open_source(data, near_duplicates_together=False).splits
    assert line["sample"] in {sample.key for sample in splits["train"]}

    made_run(data, vit, labelled_run.with_name("later"))
    page.tab("Library")
    shown.locator("#library-card h1").wait_for()
    page.tab("Results")
    expect(shown.locator("#results-which .token")).to_have_count(2, timeout=PATIENCE)
    expect(shown.locator("#results-table .lm-chart")).to_have_count(3, timeout=PATIENCE)
    assert shown.locator("#results-table .lm-chart").first.locator("g").count() == 2
    assert page.complaints == []


def test_library__a_bundle_is_merged_and_exported(studio, page, labelled_run, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    shown = page.open(studio("--runs", labelled_run.parent).address)
    page.tab("Library")
    shown.locator("#library-card h1").wait_for(timeout=PATIENCE)
    told = shown.locator("#library-notice")
    for heading, field, button, said, place in (
        ("Merge into a plain checkpoint", "#library-out", "#library-merge", "Merged into", "merged"),
        ("Export to ONNX", "#library-file", "#library-export", "Exported to", "model.onnx"),
    ):
        shown.get_by_role("button", name=heading).click()
        shown.locator(f"{field} input, {field} textarea").fill(str(tmp_path / place))
        shown.locator(button).click()
        expect(told).to_contain_text(f"{said} {tmp_path / place}", timeout=3 * PATIENCE)
    assert (tmp_path / "merged/model.safetensors").is_file()
    assert (tmp_path / "model.onnx").is_file()
    assert page.complaints == []


def test_library__a_bundle_is_pushed_once_it_may_leave(studio, page, labelled_run, tmp_path):
    with serving() as hub:
        running = studio(
            "--runs",
            labelled_run.parent,
            HF_ENDPOINT=hub.url,
            HF_HOME=str(tmp_path / "home"),
            HF_TOKEN=TOKEN,
            HF_HUB_DISABLE_XET="1",
            NO_PROXY="127.0.0.1,localhost",
            no_proxy="127.0.0.1,localhost",
        )
        shown = page.open(running.address)
        page.tab("Library")
        shown.locator("#library-card h1").wait_for(timeout=PATIENCE)
        shown.get_by_role("button", name="Push to the Hub").click()
        shown.locator("#library-repository input, #library-repository textarea").fill("user/colours")
        told = shown.locator("#library-notice")
        shown.locator("#library-push").click()
        expect(told).to_contain_text("Tick that it may leave this machine first", timeout=3 * PATIENCE)
        assert hub.requests == []
        shown.get_by_label("It may leave this machine").check()
        shown.locator("#library-push").click()
        expect(told).to_contain_text(f"Sent to {hub.url}/user/colours/commit/", timeout=3 * PATIENCE)
        sent = hub.repositories["user/colours"]
        assert sent.private
        bundle = labelled_run / "bundle"
        assert sent.files()["adapter_model.safetensors"] == (bundle / "adapter_model.safetensors").read_bytes()
        assert 'lumora.load("user/colours")' in sent.files()["README.md"].decode()
        assert page.complaints == []
