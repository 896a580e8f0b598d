"""What is found out of data and a machine."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
from tests.processes import in_a_process, reachable_folder
from tests.training.tiny import save_pictures

from lumora.errors import DataError
from lumora.training import plan
from lumora.training.surveying import free_disk


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_plan__refuses_classes_whose_names_no_bundle_can_hold(tmp_path):
    classes = save_pictures(tmp_path) / "classes"
    (classes / "red").rename(classes / "caf\udce9")
    with pytest.raises(DataError, match=r"The class 'caf\\udce9' has a name that is no text.*Rename its folder"):
        plan(classes, probe=False)


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
