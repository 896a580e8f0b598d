"""What a bundle says of pictures, made ready to be written; drawing and packing are done in threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lumora.errors import DataError, InputError, LumoraError
from lumora.predict.ahead import ahead
from lumora.predict.files import Content, PredictionFiles, encoded_drawing, encoded_mask
from lumora.predict.pictures import Picture
from lumora.predict.plain_values import plain
from lumora.predict.predictor import Prediction, Predictor
from lumora.predict.telling import bare
from lumora.predict.tiles.mask import LargeMask
from lumora.predict.writing_large import write_large
from lumora.tasks import MaskPrediction

LIKELIEST = 5
"""Labels whose probability is written."""


@dataclass(frozen=True, eq=False)
class ToFiles:
    """Predictions of one bundle as the content of files."""

    predictor: Predictor
    files: PredictionFiles
    """Large masks are written there while they are predicted."""
    overlays: bool = True

    def contents(self, pictures: Iterable[Picture], batch_size: int) -> Iterator[tuple[Picture, Content]]:
        """Each picture with what is to be written of it: of one that cannot be used, why."""
        results = map(self._with_large_mask, self.predictor.lazily(pictures, batch_size))
        for (picture, _), content in ahead(self._content, results, batch_size):
            yield picture, content

    def _with_large_mask(
        self, pair: tuple[Picture, Prediction | LargeMask | DataError]
    ) -> tuple[Picture, Prediction | Content | DataError]:
        picture, result = pair
        if not isinstance(result, LargeMask):
            return picture, result
        line, path = {"picture": picture.key}, self.files.part()
        with self.files.explained():
            try:
                return picture, write_large(result, self.predictor.labels, path, line, overlay=self.overlays)
            except DataError as error:  # that its last rows cannot be read shows only then
                path.unlink(missing_ok=True)
                return picture, bare(error)

    def _content(self, pair: tuple[Picture, Prediction | Content | DataError]) -> Content:
        (picture, result), labels = pair, self.predictor.labels
        if isinstance(result, Content):
            return result
        if isinstance(result, DataError):
            return unusable(picture, result)
        mask = encoded_mask(result.mask, labels) if isinstance(result, MaskPrediction) else None
        try:
            overlay = encoded_drawing(self.predictor.draw(picture, result)) if self.overlays else None
        except (DataError, InputError) as error:  # the file is gone since it was predicted, or is another one now
            return unusable(picture, error)
        return Content({"picture": picture.key, **plain(result, labels, LIKELIEST)}, mask, overlay)


def unusable(picture: Picture, error: LumoraError) -> Content:
    """What is written of a picture that cannot be used."""
    return Content({"picture": picture.key, "error": str(error)})
