"""The grader in other environments than a quiet terminal; the self-test tries the same."""

import tempfile
from pathlib import Path

import pytest

from tests.grader_environments import ENVIRONMENTS, Unable


@pytest.mark.long
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(name):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        try:
            problem = ENVIRONMENTS[name](Path(folder))
        except Unable as why:
            pytest.skip(str(why))
    assert not problem
