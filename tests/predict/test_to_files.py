import signal

import pytest
from tests.data.making import noise
from tests.predict.making import bundle_of, tensor

import lumora
from lumora.errors import OutputError, UnreadableError
from lumora.predict.files import PredictionFiles
from lumora.predict.to_files import ToFiles


def test_contents__a_disk_that_is_full_while_a_large_mask_is_written_is_told(tmp_path):
    resource = pytest.importorskip("resource")
    predictor = lumora.load(bundle_of("segformer", tmp_path)[0], device="cpu", tile=64)
    files = PredictionFiles(tmp_path / "out", {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the system ends the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"could not be written: File too large\. Make room; what was predicted"):
            list(ToFiles(predictor, files).contents([noise(200, 200)], 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    files.close()


class Vanishing:
    """A picture whose file is gone, or another one, when it is to be drawn."""

    def __init__(self, then):
        self.key, self.left = "vanishing.png", [tensor(noise(40, 50)), then]

    def picture(self):
        if isinstance(found := self.left.pop(0), Exception):
            raise found
        return found


@pytest.mark.parametrize("then", [UnreadableError("it is gone"), tensor(noise(30, 20))])
def test_contents__a_picture_that_changes_before_it_is_drawn_stops_nothing(tmp_path, then):
    predictor = lumora.load(bundle_of("segformer", tmp_path)[0], device="cpu")
    files = PredictionFiles(tmp_path / "out", {})
    contents = [content for _, content in ToFiles(predictor, files).contents([Vanishing(then), noise(40, 50)], 2)]
    files.close()
    assert ["error" in content.line for content in contents] == [True, False]
    assert (contents[0].mask, contents[0].overlay) == (None, None)
