"""A dataset on a Hub of our own, fetched by the real client in a process of its own."""

import time

import pytest
from tests.data.making import keys
from tests.hub_server import Client, FailedError, serving

from lumora.data import open_source


def opened(name, **options):
    """What a process sees that knows only this Hub."""
    started = time.monotonic()
    source = open_source(name, near_duplicates_together=False, **options)
    shapes = {tuple(sample.picture().shape) for samples in source.splits.values() for sample in samples}
    seconds = time.monotonic() - started
    return source.layout, source.labels.names, {split: keys(source, split) for split in source.splits}, shapes, seconds


def repository(folder):
    from tests.data.layouts.test_datasets_library import labelled

    (folder / "data").mkdir(parents=True)
    labelled(6).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    labelled(2).to_parquet(folder / "data" / "validation-00000-of-00001.parquet")
    return folder


@pytest.mark.slow
def test_dataset_of_the_hub__is_fetched_once_and_found_without_it(tmp_path):
    with serving() as hub:
        hub.add("user/pets", repository(tmp_path / "repository"))
        client = Client(hub.url, tmp_path / "home", {"HF_DATASETS_OFFLINE": "0"})
        layout, names, splits, shapes, _ = client.run(opened, "user/pets")
        assert layout == "the dataset user/pets of the Hub; in train, validation"
        assert names == ("cat", "dog")
        assert {split: len(of) for split, of in splits.items()} == {"train": 6, "validation": 2}
        assert shapes == {(3, 12, 16)}
        with pytest.raises(FailedError, match=r"HubError: .*the Hub gives no dataset of that name.*Check the spelling"):
            client.run(opened, "user/dogs")
    gone = Client("http://127.0.0.1:9", tmp_path / "home", {"HF_DATASETS_OFFLINE": "0"})
    again = gone.run(opened, "user/pets")
    assert again[1:4] == (names, splits, shapes)
    with pytest.raises(FailedError, match=r"HubError: .*'user/dogs' here, and the Hub cannot be reached"):
        gone.run(opened, "user/dogs")
