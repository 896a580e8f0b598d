"""Fetching adapters from the Hub and sending them there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lumora.errors import AdapterFileError, HubError


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
    """Where to send a folder."""

    repo_id: str
    token: str | bool | None = None
    private: bool | None = None
    commit_message: str | None = None
    revision: str | None = None
    create_pr: bool = False


def fetch(repo_id: str, name: str, options: HubOptions, *, required: bool = True) -> Path | None:
    """Return the local path of a file of a repository, downloaded if it is not cached.

    None when the repository has no such file and it is not `required`.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        path = huggingface_hub.hf_hub_download(
            repo_id,
            name,
            revision=options.revision,
            token=options.token,
            cache_dir=options.cache_dir,
            local_files_only=options.local_files_only,
            force_download=options.force_download,
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if not required and _is_known(repo_id, options):
            return None
        raise HubError(
            f"{repo_id}/{name} is not in the cache and the Hub cannot be reached (no network, offline mode, or "
            "local_files_only). Connect once, or give a local folder."
        ) from error
    except EntryNotFoundError as error:
        if not required:
            return None
        raise AdapterFileError(f"The repository {repo_id!r} has no file {name!r}; is it an adapter?") from error
    except GatedRepoError as error:
        raise HubError(f"The repository {repo_id!r} is gated; ask for access on its page and give a token.") from error
    except RevisionNotFoundError as error:
        raise HubError(f"The repository {repo_id!r} has no revision {options.revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"There is no folder {repo_id!r} here and no such repository on the Hub; if it is private, give a token."
        ) from error
    except HFValidationError as error:
        raise AdapterFileError(
            f"{repo_id!r} is neither a folder here nor the name of a repository (user/name) on the Hub."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise HubError(f"Fetching {repo_id}/{name} from the Hub failed: {error}") from error
    return Path(path)


def push_folder(folder: Path, target: Target) -> str:
    """Send every file of a folder to a repository, made when missing; return the address of the commit."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        api = huggingface_hub.HfApi(token=target.token)
        repo_id = str(api.create_repo(target.repo_id, private=target.private, exist_ok=True).repo_id)
        if target.revision is not None and not target.create_pr:
            api.create_branch(repo_id, branch=target.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=target.commit_message or "Upload adapter",
            revision=target.revision,
            create_pr=target.create_pr,
        )
    except HFValidationError as error:
        raise HubError(f"{target.repo_id!r} is not a name for a repository: use 'name' or 'user/name'.") from error
    except (HfHubHTTPError, OSError) as error:
        raise HubError(f"Sending {folder} to {target.repo_id!r} failed; the folder is untouched: {error}") from error
    return str(commit.commit_url)


@contextmanager
def staging_folder() -> Iterator[Path]:
    """A folder that exists inside the `with` only."""
    with tempfile.TemporaryDirectory(prefix="lumora-") as folder:
        yield Path(folder)


def _is_known(repo_id: str, options: HubOptions) -> bool:
    """Whether any file of the repository is cached, so that a missing one is missing there too."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(
        repo_id, "adapter_config.json", cache_dir=options.cache_dir, revision=options.revision
    )
    return isinstance(found, str)
