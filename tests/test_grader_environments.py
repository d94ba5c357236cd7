"""The grader under other circumstances than a quiet terminal; the self-test tries the same."""

import os

import pytest

from grader.environments import ENVIRONMENTS, Unable


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(name, tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:3]):  # pytest's folders are closed to others
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    try:
        problem = ENVIRONMENTS[name](tmp_path)
    except Unable as why:
        pytest.skip(str(why))
    assert not problem
