"""What is found out of a machine."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
from tests.processes import in_a_process, reachable_folder

from lumora.training.surveying import free_disk


def test_free_disk__is_that_of_the_folder_that_there_is(tmp_path):
    room = shutil.disk_usage(tmp_path)
    assert 0 < free_disk(tmp_path / "not" / "there") <= room.total


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="needs another user")
def test_free_disk__of_a_place_that_this_user_cannot_reach():
    with reachable_folder() as folder:
        (folder / "mine").mkdir()
        (folder / "mine").chmod(0o700)
        answer = in_a_process(lambda: free_disk(folder / "mine" / "cache") > 0, without_rights=True)
    assert answer == "True"
