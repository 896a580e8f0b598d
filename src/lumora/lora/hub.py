"""Fetching adapters from the Hub and sending them there."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lumora.errors import AdapterFileError, HubError

_PATIENCE = 10.0
"""Seconds to wait for the Hub's first answer."""


@dataclass(frozen=True)
class HubOptions:
    """How to fetch a file."""

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    force_download: bool = False


@dataclass(frozen=True)
class Target:
    """Where to send files."""

    repo_id: str
    token: str | bool | None = None
    private: bool | None = None
    commit_message: str | None = None
    revision: str | None = None
    create_pr: bool = False


def fetch(repo_id: str, name: str, options: HubOptions, *, required: bool = True, download: bool = True) -> Path | None:
    """Return the local path of a file of a repository, downloaded if it is not cached.

    None when the repository has no such file and it is not `required`. With `download=False` the file is only looked
    for, and the path is where it would be.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    known: object = None
    try:
        known = huggingface_hub.try_to_load_from_cache(
            repo_id, name, cache_dir=options.cache_dir, revision=options.revision
        )
        if known is None and not options.local_files_only and not huggingface_hub.constants.is_offline_mode():
            # Without this, a download retries for half a minute before it says that there is no network.
            with suppress(EntryNotFoundError):  # the download says so too, and remembers it
                _look(repo_id, name, options)
        found = huggingface_hub.hf_hub_download(
            repo_id,
            name,
            revision=options.revision,
            token=options.token,
            cache_dir=options.cache_dir,
            local_files_only=options.local_files_only,
            force_download=options.force_download,
            dry_run=not download,
        )
    except LocalEntryNotFoundError as error:
        if known is huggingface_hub._CACHED_NO_EXIST and not required:
            return None
        raise HubError(_not_reached(f"{repo_id}/{name} is not in the cache", error)) from error
    except EntryNotFoundError as error:
        if not required:
            return None
        raise AdapterFileError(f"The repository {repo_id!r} has no file {name!r}; is it an adapter?") from error
    except HFValidationError as error:
        raise AdapterFileError(
            f"{repo_id!r} is neither a folder here nor the name of a repository (user/name) on the Hub."
        ) from error
    except Exception as error:
        raise _explained(error, f"{repo_id}/{name} could not be fetched", repo_id, options.revision) from error
    return Path(found if isinstance(found, str) else found.local_path)


def push(files: Mapping[str, Path], target: Target) -> str:
    """Send files to a repository, made when missing, under the given names; return the address of the commit."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        api = huggingface_hub.HfApi(token=target.token)
        repo_id = api.create_repo(target.repo_id, private=target.private, exist_ok=True).repo_id
        if target.revision is not None and not target.create_pr:
            api.create_branch(repo_id, branch=target.revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [huggingface_hub.CommitOperationAdd(name, path) for name, path in files.items()],
            commit_message=target.commit_message or "Upload adapter",
            revision=target.revision,
            create_pr=target.create_pr,
        )
    except HFValidationError as error:
        raise HubError(f"{target.repo_id!r} is not a name for a repository: use 'name' or 'user/name'.") from error
    except Exception as error:
        what = f"Nothing was sent to {target.repo_id!r}"
        raise _explained(error, what, target.repo_id, target.revision) from error
    return str(commit.commit_url)


@contextmanager
def staging_folder() -> Generator[Path]:
    """A folder that exists inside the `with` only."""
    with tempfile.TemporaryDirectory(prefix="lumora-") as folder:
        yield Path(folder)


def _look(repo_id: str, name: str, options: HubOptions) -> None:
    """Ask the Hub for a file once; raises whatever is in the way."""
    import huggingface_hub

    url = huggingface_hub.hf_hub_url(repo_id, name, revision=options.revision)
    huggingface_hub.get_hf_file_metadata(url, token=options.token, timeout=_PATIENCE)


def _explained(error: Exception, what: str, repo_id: str, revision: str | None) -> HubError:
    """The error in words, with what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return HubError(f"{what}: the repository {repo_id!r} is gated; ask for access on its page and give a token.")
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{what}: the repository {repo_id!r} has no revision {revision!r}.")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            f"{what}: there is no folder {repo_id!r} here and no such repository on the Hub; if it is private, give a "
            "token that may read it."
        )
    if status in (401, 403):
        return HubError(f"{what}: the Hub refused the token ({status}); it is wrong, expired or may not do this.")
    # What the network raises is no OSError; its base class is also that of the Hub's own errors.
    if isinstance(error, OfflineModeIsEnabled) or (status is None and isinstance(error, HfHubHTTPError.__bases__[0])):
        return HubError(_not_reached(what, error))
    return HubError(f"{what}: {error}")


def _not_reached(what: str, error: Exception) -> str:
    return (
        f"{what}, and the Hub cannot be reached (no network, offline mode, or local_files_only). Connect once, or give "
        f"a local folder. ({error})"
    )
