"""distribute.sql where there is no cluster; tests/citus has the rest."""

from subprocess import CalledProcessError

import pytest
from support.scripts import RunScript


def test_database_without_citus_is_refused(run_script: RunScript) -> None:
    with pytest.raises(CalledProcessError) as caught:
        run_script("citus/distribute.sql")
    assert "this database has no Citus" in caught.value.stdout
