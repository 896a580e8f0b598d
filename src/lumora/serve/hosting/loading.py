"""Loading bundles for a pool: onto a base that is there already if that can be, and proved before they are used."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import nn

from lumora.bundle import About, load, names, proof
from lumora.bundle.locating import bundle_folder, read_about_in, repository_folder
from lumora.bundle.reading import check_fingerprint, check_whole, name_to_load
from lumora.bundle.verify import check_proof
from lumora.data.manifest import MANIFEST
from lumora.errors import BundleError, LumoraError
from lumora.lora import files, hub
from lumora.lora.hub import HubOptions
from lumora.models import load_base
from lumora.models.base import fetch_base
from lumora.models.libraries import weights_are_here
from lumora.models.names import parse
from lumora.serve.hosting.addition import Addition
from lumora.serve.hosting.extracting import NotSharedError, extract
from lumora.serve.hosting.hosted import Hosted
from lumora.serve.hosting.shared import SharedBase
from lumora.tasks.memory import is_about_memory

LOG = logging.getLogger("lumora.serve.hosting")

_VERSION = 12
"""Characters of a version."""


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from: a folder here, or a repository on the Hub."""

    folder: Path | None = None
    repository: str | None = None
    revision: str | None = None

    def home(self) -> Path:
        """The folder of its files, fetched if need be. A repository's name never means a folder here."""
        if self.folder is not None:
            return bundle_folder(self.folder)
        return repository_folder(str(self.repository), HubOptions(self.revision))

    def description(self) -> Path:
        """The folder of what it says of itself; of a repository nothing else is fetched."""
        if self.folder is not None:
            return bundle_folder(self.folder)
        repository = str(self.repository)
        about = hub.fetch(repository, names.ABOUT, HubOptions(self.revision))
        assert about is not None
        hub.fetch(repository, MANIFEST, HubOptions(about.parent.name))  # of the same commit
        return about.parent

    def __str__(self) -> str:
        return str(self.folder or self.repository)


@dataclass(frozen=True, eq=False)
class Description:
    """What a bundle says of itself, as long as it is not loaded."""

    name: str
    version: str
    about: About


def describe(name: str, origin: Origin) -> Description:
    """It, without the bundle's weights and without its base."""
    home = origin.description()
    return Description(name, _version(home), read_about_in(home))


class Loader:
    """Loads bundles from any number of threads, each base once.

    Args:
        device: where they compute.
        base: where a base lies now, for the bundles that were made on it; loaded once for each kind of head to know
            which these are. Bundles whose own base cannot be had are tried on it as well.
        allow_other_base: go on where a base's weights are others than in training; all are put on `base` then.
    """

    def __init__(
        self, device: torch.device, base: str | nn.Module | None = None, allow_other_base: bool = False
    ) -> None:
        self._device, self._base, self._allow_other_base = device, base, allow_other_base
        self._bases: WeakValueDictionary[object, SharedBase] = WeakValueDictionary()
        self._fitting: dict[object, bool] = {}
        """Whether the given base is that of bundles of a kind, as far as that is known."""
        self._building = threading.Lock()
        self._proving = threading.Lock()

    def load(self, name: str, origin: Origin) -> Hosted:
        """The bundle, checked, proved, and ready."""
        try:
            return self._load(name, origin)
        except (LumoraError, OSError, MemoryError):  # the last two are this machine's, and may be over in a moment
            raise
        except Exception as error:  # of a library, which knows nothing of bundles
            raise BundleError(f"The bundle {origin} cannot be loaded: {type(error).__name__}: {error}") from error

    def _load(self, name: str, origin: Origin) -> Hosted:
        home = origin.home()
        check_whole(home)
        about = read_about_in(home)
        base = self._base_of(home, about)
        version = _version(home)
        try:
            return Hosted(name, version, about, self._on_shared_base(home, about, base))
        except NotSharedError as error:
            why = str(error)
        hosted = Hosted(name, version, about, self._alone(home, base), why)
        LOG.info("a bundle has a model of its own", extra={"fields": {"bundle": name, "why_alone": why}})
        return hosted

    def is_far(self, origin: Origin) -> bool:
        """Whether a bundle, or the base that it is on, may have to come over the network."""
        if origin.folder is None:
            return True
        about = read_about_in(bundle_folder(origin.folder))
        if about.base.library == "keras":
            return False
        fits = self._fitting.get(_key(about, self._base))
        if isinstance(self._base, str) and fits is not False and self._is_base_far(self._base, about):
            return True
        return not fits and self._is_base_far(name_to_load(about, origin.folder), about)

    @property
    def bases(self) -> int:
        """How many bases are loaded."""
        return len(self._bases)

    # --- which base ---------------------------------------------------------------------------------------------------

    def _base_of(self, home: Path, about: About) -> str | nn.Module | None:
        """The given base where it is the bundle's, or where the bundle's own cannot be had; else its own.

        The base's files are here then: others are not kept from loading while the network takes its time.
        """
        given = self._base
        if about.base.library == "keras":  # whose bundles' reader finds their own
            return given if about.base.is_nameless or str(given).startswith("keras:") else None
        if isinstance(given, str) and self._fitting.get(_key(about, given)) is not False:
            self._fetch_base(given, home, about)
        if given is not None and (self._allow_other_base or self._fits(given, about)):
            return given
        try:
            own = name_to_load(about, home)
            self._fetch_base(own, home, about)
        except BundleError:
            if given is None:
                raise
            return given  # whoever loads the bundle says what is wrong with it
        return own

    def _fits(self, given: str | nn.Module, about: About) -> bool:
        """Whether a base is the very one that a bundle was made on."""
        key = _key(about, given)
        if key not in self._fitting:
            with self._building:
                self._fitting[key] = _is_base_of(about, given)
        return self._fitting[key]

    def _fetch_base(self, name: str, home: Path, about: About) -> None:
        if _key(about, name) in self._bases:
            return
        try:
            fetch_base(name)
        except LumoraError as error:
            raise _not_loaded(home, error) from error

    def _is_base_far(self, name: str, about: About) -> bool:
        return _key(about, name) not in self._bases and not _is_here(name)

    # --- onto it ------------------------------------------------------------------------------------------------------

    def _on_shared_base(self, home: Path, about: About, base: str | nn.Module | None) -> tuple[SharedBase, Addition]:
        if about.method == "full":
            raise NotSharedError("All its weights were trained.")
        if isinstance(base, nn.Module):
            raise NotSharedError("Its base was given ready.")
        name = base or name_to_load(about, home)
        with self._building:  # libraries change what is common to all threads while they build a model
            shared = self._shared_base(home, about, name)
            try:
                structure = shared.structures.of(about, name)
                addition = extract(home, about, structure, shared.originals, self._device)
            except (NotSharedError, BundleError):
                raise
            except LumoraError as error:
                raise BundleError(f"The bundle {home} cannot be loaded: {error}") from error
            shared.prepare(addition)
        expected = files.read_tensors_of_file(home / names.PROOF)
        try:
            with self._proving:  # which sets the precision of all threads' numbers, and back
                alone, mixed = shared.prove(addition, about)
            proof.compare(alone, mixed, shared.tolerance())
            if not self._allow_other_base:
                proof.compare(expected, alone, shared.tolerance())
        except BundleError as error:
            raise NotSharedError(f"On a shared base it gives something else than it should. {error}") from error
        return shared, addition

    def _alone(self, home: Path, base: str | nn.Module | None) -> nn.Module:
        """A model for one bundle, which gives what it gave after its training."""
        with self._building:
            loaded = load(home, base=base, device=self._device, allow_other_base=self._allow_other_base)
        if not self._allow_other_base:
            try:
                with self._proving:
                    check_proof(home, loaded)
            except BundleError as error:
                raise BundleError(
                    f"The bundle {home} does not give what it gave when it was written, and is not used. {error} "
                    f"Does a library compute something else in this version? python -m lumora.bundle.verify {home}"
                ) from error
        return loaded.model.requires_grad_(False)

    def _shared_base(self, home: Path, about: About, name: str) -> SharedBase:
        own, key = about.base, _key(about, name)
        if (known := self._bases.get(key)) is not None:
            return known
        try:
            base = load_base(
                name,
                task=about.task,
                labels=about.labels.names,
                head=own.head,
                width=own.width,
                preprocessing=about.preprocessing,
            )
        except LumoraError as error:
            raise _not_loaded(home, error) from error
        check_fingerprint(about, base, home, self._allow_other_base)
        alike = next((one for one in self._bases.values() if one.fingerprint == base.fingerprint), None)
        shared = SharedBase(base, self._device, alike)
        self._bases[key] = shared
        return shared


def _is_base_of(about: About, given: str | nn.Module) -> bool:
    """Whether a base has the fingerprint of a bundle's, under a head like the bundle's."""
    own = about.base
    try:
        base = load_base(
            given if isinstance(given, str) else copy.deepcopy(given),
            task=about.task,
            labels=about.labels.names,
            head=own.head,
            width=own.width,
            preprocessing=about.preprocessing,
        )
    except Exception as error:  # a library's: it has no place for such a head, or takes pictures of another size
        if isinstance(error, MemoryError) or is_about_memory(error):  # may be over in a moment
            raise
        return False
    return base.fingerprint == own.fingerprint


def _key(about: About, name: str | nn.Module | None) -> object:
    """Bundles with the same can be on the same base."""
    own = about.base
    return name, own.library, own.fingerprint, own.head, own.width, own.heads, about.task == "segmentation"


def _version(home: Path) -> str:
    """What changes when a bundle's files do."""
    try:
        return hashlib.sha256((home / MANIFEST).read_bytes()).hexdigest()[:_VERSION]
    except OSError as error:
        raise BundleError(f"{home / MANIFEST} cannot be read: {error.strerror}. Copy the bundle again.") from error


def _is_here(name: str) -> bool:
    """Whether a base can be loaded without the network, as far as that can be known."""
    parsed = parse(name)
    return parsed.library == "python" or weights_are_here(parsed)


def _not_loaded(home: Path, error: LumoraError) -> BundleError:
    return BundleError(f"The base of the bundle {home} could not be loaded: {error}")
