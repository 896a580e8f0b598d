"""Many bundles in one process: loaded when they are first asked for, forgotten when memory is short."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import torch
from torch import nn

from lumora.errors import BundleError, InputError, LumoraError
from lumora.predict.pictures import pictures
from lumora.predict.predictor import Prediction
from lumora.serve.hosting.catalogue import Catalogue
from lumora.serve.hosting.hosted import Hosted, Seen, compute
from lumora.serve.hosting.loading import Description, Loader, Origin, describe
from lumora.serve.hosting.returning import give_back
from lumora.serve.hosting.threads import Threads

_REST = 10.0
"""Seconds until a bundle that could not be loaded is tried again; whoever asks for it meanwhile hears the same."""


class OvertakenError(LumoraError):
    """A bundle was loaded, and not put in its place: what was asked for later is there already."""


class Pool:
    """Bundles that share what is the same in them, ready to predict. Safe to use from several threads.

    A base is loaded once, whatever the number of bundles on it, and computes batches in which each picture belongs to
    another bundle. What cannot be shared so (all weights trained, say) has a model of its own, and batches of its own.
    `docs/guides/serving.md` tells more.

    Args:
        bundles: their folders, folders full of bundles, or repositories on the Hub, perhaps with names in front
            (`cats=runs/7/bundle`).
        device: where they compute; on a GPU if there is one, unless you say otherwise.
        memory: the most bytes that loaded bundles take, bases left out; those that were not asked for longest are
            forgotten first, and loaded again when they are asked for.
        base: where a base lies now, for the bundles that were made on it; those of other bases stay on their own.
        allow_other_base: go on where a base's weights are others than in training; all are put on `base` then.
    """

    def __init__(
        self,
        bundles: Iterable[str | os.PathLike[str]] = (),
        *,
        device: str | torch.device | None = None,
        memory: int | None = None,
        base: str | nn.Module | None = None,
        allow_other_base: bool = False,
    ) -> None:
        if memory is not None and memory < 1:
            raise InputError(f"memory is {memory}; it is a number of bytes above 0, or None for no limit.")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.memory = memory
        self.evicted = 0
        """How many bundles were forgotten for want of memory so far."""
        self._catalogue = Catalogue(os.fspath(bundle) for bundle in bundles)
        self._loader = Loader(self.device, base, allow_other_base)
        self._loaded: OrderedDict[str, Hosted] = OrderedDict()
        self._coming: dict[str, tuple[Origin, Future[Hosted]]] = {}
        self._wishes: dict[str, list[object]] = {}
        """Those to add a bundle, by its name, that nothing newer was put in the place of; the newest is last."""
        self._failed: dict[Origin, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._threads = Threads()

    # --- which bundles there are --------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """All bundles that can be asked for."""
        return self._catalogue.names()

    @property
    def loaded(self) -> list[Hosted]:
        """Those that are loaded now, the one that was asked for last at the end."""
        with self._lock:
            return list(self._loaded.values())

    @property
    def bytes(self) -> int:
        """The memory that loaded bundles take, bases left out."""
        return sum(hosted.bytes for hosted in self.loaded)

    @property
    def bases(self) -> int:
        """How many shared bases are loaded."""
        return self._loader.bases

    def fetch(self, name: str) -> Future[Hosted]:
        """A bundle, loaded if it is not yet; others go on being used meanwhile. An unknown name is an error at once."""
        return self.fetch_known(name) or self._fetch(name, self._catalogue.find(name))

    def fetch_known(self, name: str) -> Future[Hosted] | None:
        """The same without looking into folders; None for a name that is not known yet."""
        with self._lock:
            if (there := self._here_or_coming(name)) is not None:
                return there
        origin = self._catalogue.known(name)
        return None if origin is None else self._fetch(name, origin)

    def fetch_later(self, name: str) -> Future[Future[Hosted]]:
        """What `fetch` gives, of a thread of its own: folders may be slow."""
        return self._threads.look(partial(self.fetch, name))

    def here(self, name: str) -> Hosted | None:
        """A bundle if it is loaded now. That somebody looks does not count as use of it."""
        with self._lock:
            return self._loaded.get(name)

    def find_later(self, name: str) -> Future[Origin]:
        """Where a bundle lies, of a thread of its own; an error for a name that is not known."""
        return self._threads.look(partial(self._catalogue.find, name))

    def describe_later(self, name: str) -> Future[Description]:
        """What a bundle says of itself, of a thread of its own; it is not loaded."""
        return self._threads.look(
            lambda: describe(name, self._catalogue.find(name)),
            lambda: self._catalogue.find(name).repository is not None,
        )

    def knows(self, name: str) -> bool:
        """Whether a name is known already; no folder is looked into."""
        return self._catalogue.known(name) is not None

    def failed(self, name: str) -> bool:
        """Whether a bundle could not be loaded when that was tried last."""
        return self._catalogue.known(name) in self._failed

    def get(self, name: str) -> Hosted:
        """The same, and wait for it."""
        return self.fetch(name).result()

    def add(self, name: str, place: str | os.PathLike[str] | Origin) -> Hosted:
        """Load a bundle under a name, now; one that has the name goes on being used until this one can be."""
        origin = place if isinstance(place, Origin) else _origin(os.fspath(place))
        return self._add(name, origin, self._wish(name))

    def add_anew(self, name: str) -> Hosted:
        """The same for a bundle in one of the folders full of bundles, or else from where it came before."""
        return self._add(name, None, self._wish(name))

    def add_later(self, name: str, origin: Origin | None) -> Future[Hosted]:
        """What `add` gives, or `add_anew` without an origin, as soon as one of the loading threads is free.

        Of several for one name the one that was asked for last counts, whichever is loaded first; the others end with
        an `OvertakenError`, also after a `remove`.
        """
        wish = self._wish(name)
        return self._threads.load(
            lambda: self._add(name, origin, wish),
            lambda: self._loader.is_far(origin or self._catalogue.anew(name)),
        )

    def remove(self, name: str) -> None:
        """Forget a bundle, and what is being loaded to take its name. Batches that hold it are still computed."""
        with self._lock:
            if self._wishes.pop(name, None) is None:
                self._catalogue.remove(name)
            else:
                self._catalogue.keep_out(name)
            self._coming.pop(name, None)
            self._loaded.pop(name, None)

    def close(self) -> None:
        """Load nothing more; what is being loaded goes on."""
        self._threads.close()

    @property
    def busy(self) -> bool:
        """Whether something is being loaded or looked for."""
        return self._threads.busy

    # --- predicting ---------------------------------------------------------------------------------------------------

    def look(self, hosted: Hosted, picture: object) -> Seen:
        """What a bundle's model sees of a picture, of any kind that a predictor takes."""
        [one] = pictures([picture])
        pixels = one.picture()
        height, width = pixels.shape[1:]
        return Seen(hosted, hosted.preprocessing.framed(pixels), (height, width))

    def predict(self, asked: Sequence[tuple[str, Any]]) -> list[Prediction]:
        """The predictions of pictures, each by the bundle that is named with it; as few batches as can be.

        Args:
            asked: names of bundles and pictures.
        """
        seen = [self.look(self.get(name), picture) for name, picture in asked]
        batches: dict[object, list[int]] = {}
        for i, one in enumerate(seen):
            batches.setdefault(one.hosted.company, []).append(i)
        predictions: dict[int, Prediction] = {}
        for own in batches.values():
            predictions |= zip(own, compute([seen[i] for i in own]), strict=True)
        return [predictions[i] for i in range(len(seen))]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _here_or_coming(self, name: str) -> Future[Hosted] | None:
        """A bundle that is loaded or being loaded; the lock is held."""
        if (hosted := self._loaded.get(name)) is None:
            return self._coming[name][1] if name in self._coming else None
        self._loaded.move_to_end(name)
        done: Future[Hosted] = Future()
        done.set_result(hosted)
        return done

    def _fetch(self, name: str, origin: Origin) -> Future[Hosted]:
        with self._lock:
            if (there := self._here_or_coming(name)) is not None:
                return there
            coming = self._threads.load(partial(self._load, name, origin), partial(self._loader.is_far, origin))
            self._coming[name] = origin, coming
            return coming

    def _wish(self, name: str) -> object:
        """Remember that a bundle is to be added under a name from now on."""
        wish = object()
        with self._lock:
            self._wishes.setdefault(name, []).append(wish)
        return wish

    def _add(self, name: str, origin: Origin | None, wish: object) -> Hosted:
        try:
            origin = origin or self._catalogue.anew(name)
            hosted = self._loader.load(name, origin)
            with self._lock:
                waiting = self._wishes.get(name, [])
                if wish not in waiting:
                    raise OvertakenError(
                        f"A later request has put another bundle in the place of {name!r}, or removed it, while this "
                        "one was being loaded."
                    )
                del waiting[: waiting.index(wish)]  # older ones come too late from now on
                self._catalogue.add(name, origin)
                self._coming.pop(name, None)
                self._failed.pop(origin, None)
                self._keep(hosted)
        finally:
            self._forget(name, wish)
        give_back()
        return hosted

    def _forget(self, name: str, wish: object) -> None:
        with self._lock:
            if wish in (waiting := self._wishes.get(name, [])):
                waiting.remove(wish)
                if not waiting:
                    del self._wishes[name]

    def _load(self, name: str, origin: Origin) -> Hosted:
        try:
            hosted = self._load_or_rest(name, origin)
            with self._lock:
                if self._catalogue.has(name, origin):  # and was neither removed nor replaced meanwhile
                    self._keep(hosted)
            give_back()
            return hosted
        finally:
            with self._lock:
                if name in self._coming and self._coming[name][0] is origin:
                    del self._coming[name]

    def _load_or_rest(self, name: str, origin: Origin) -> Hosted:
        failed, reason = self._failed.get(origin, (0.0, None))
        if reason is not None and time.monotonic() - failed < _REST:
            raise BundleError(reason)
        try:
            hosted = self._loader.load(name, origin)
        except LumoraError as error:  # its words alone: it holds all that was loaded until then
            self._failed[origin] = time.monotonic(), str(error)
            raise
        self._failed.pop(origin, None)
        return hosted

    def _keep(self, hosted: Hosted) -> None:
        """Let a bundle be found, and forget others if memory is short; the lock is held."""
        self._loaded[hosted.name] = hosted
        self._loaded.move_to_end(hosted.name)
        taken = sum(one.bytes for one in self._loaded.values())
        while self.memory is not None and taken > self.memory and len(self._loaded) > 1:
            _, forgotten = self._loaded.popitem(last=False)
            taken -= forgotten.bytes
            self.evicted += 1


def _origin(place: str) -> Origin:
    alone = Catalogue([place])
    found = alone.names()
    if len(found) > 1:
        raise BundleError(f"{place} holds {len(found)} bundles; give the folder of one of them.")
    return alone.find(found[0])
