"""The container: buildah makes the image on a base of debootstrap, without a registry, and runs it with the
environment of compose.yaml, beside Debian's PostgreSQL and nginx with the commands of compose.yaml.
"""

import base64
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.roots import copy_tree, full, full_with_buildah, run_in, running_in
from support.service import TREE, wait_until

from mai_sessions.config import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((TREE / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (TREE / "Dockerfile").read_text(encoding="utf-8")
IMAGE = "mai-sessions"


def test_compose_names_settings_and_files_that_exist() -> None:
    environ = SERVICES["mai-sessions"]["environment"]
    assert set(environ) <= dict(Settings().in_force()).keys()
    [address] = [network["ipv4_address"] for network in SERVICES["nginx"]["networks"].values()]
    assert environ["MAI_SESSIONS_TRUSTED_PROXIES"] == address
    for volume in SERVICES["nginx"]["volumes"]:
        assert (TREE / volume.partition(":")[0]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_each_compose_service_restarts_and_has_a_bounded_log(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert {"max-size", "max-file"} <= SERVICES[name]["logging"]["options"].keys()


class Buildah:
    """buildah with a store of its own, which needs no user namespaces and no overlays."""

    def __init__(self, directory: Path) -> None:
        self._command = [
            "buildah",
            "--storage-driver=vfs",
            f"--root={directory}/store",
            f"--runroot={directory}/run",
        ]

    def __call__(self, *arguments: str | Path) -> str:
        command = [*self._command, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout.strip()

    def run(self, container: str, *command: str, **environ: str) -> list[str]:
        """Return the command that runs a program in a container, on the network of this host."""
        variables = [f"--env={name}={value}" for name, value in environ.items()]
        return [*self._command, "run", "--isolation=chroot", *variables, container, "--", *command]


@pytest.fixture(scope="module")
def buildah(bare_debian: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    """A buildah that has built the image."""
    directory = tmp_path_factory.mktemp("buildah")
    buildah = Buildah(directory)
    archive = directory / "base.tar"
    subprocess.run(["tar", f"--directory={bare_debian}", "--create", f"--file={archive}", "."], check=True)
    container = buildah("from", "scratch")
    buildah("add", container, archive, "/")
    buildah("commit", "--rm", container, "localhost/debian:12")
    copy_tree(directory / "tree")
    options = [
        "--isolation=chroot",
        "--format=docker",
        "--build-arg=BASE=localhost/debian:12",
        f"--tag={IMAGE}",
    ]
    volumes = [f"--volume={wheels}:/wheels:ro", f"--volume={wheels}/pip.conf:/etc/pip.conf:ro"]
    buildah("build", *options, *volumes, directory / "tree")
    return buildah


@full_with_buildah
def test_image_has_a_user_and_a_health_check_and_no_build_tools(buildah: Buildah) -> None:
    config = json.loads(buildah("inspect", "--type=image", IMAGE))["Docker"]["config"]
    assert config["User"] == "mai-sessions"
    assert config["Cmd"] == ["mai-sessions", "serve"]
    assert config["Healthcheck"]["Test"][-1].endswith("/health/ready")
    container = buildah("from", IMAGE)
    tools = "! command -v gcc; ! test -e /opt/mai-sessions/bin/pip; ! test -e /src; pg_dump --version; id -un"
    printed = subprocess.run(buildah.run(container, "sh", "-exc", tools), check=True, capture_output=True)
    assert printed.stdout.endswith(b"\nmai-sessions\n")


@pytest.fixture
def host(bare_debian: Path, tmp_path: Path) -> Iterator[Path]:
    """A root with the PostgreSQL and the nginx of compose.yaml, as far as Debian has them."""
    root = tmp_path / "host"
    subprocess.run(["cp", "--archive", bare_debian, root], check=True)
    run_in(root, "apt-get update; apt-get install --yes --no-install-recommends nginx-light postgresql")
    (root / "etc/nginx/sites-enabled/default").unlink()
    with (root / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 mai-sessions\n")
    for volume in SERVICES["nginx"]["volumes"]:
        source, target, _ = volume.split(":")
        shutil.copy(TREE / source, root / target.removeprefix("/"))
    yield root
    subprocess.run(["rm", "--recursive", "--force", "--one-file-system", root], check=True)


def start_postgres() -> str:
    """The script that starts Debian's PostgreSQL with the environment and the options of compose.yaml."""
    service = SERVICES["postgres"]
    environ = {name: shlex.quote(value) for name, value in service["environment"].items()}
    options = "\n".join(value for value in service["command"][1:] if "=" in value)
    return f"""
        echo {shlex.quote(options)} > /etc/postgresql/15/main/conf.d/compose.conf
        service postgresql start
        runuser -u postgres -- psql --command "CREATE ROLE {environ["POSTGRES_USER"]} LOGIN SUPERUSER
            PASSWORD '{environ["POSTGRES_PASSWORD"]}'"
        runuser -u postgres -- createdb {environ["POSTGRES_DB"]}
        sleep infinity
    """


@contextmanager
def running_image(buildah: Buildah, **environ: str) -> Iterator[str]:
    """Run the command of the image, and yield the container."""
    container = buildah("from", IMAGE)
    with psutil.Popen(buildah.run(container, "mai-sessions", "serve", **environ)) as process:
        try:
            yield container
        finally:
            for child in process.children(recursive=True):
                # Where its parent has ended, it may have, too.
                with suppress(psutil.NoSuchProcess):
                    child.terminate()


def succeeds(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def status(credentials: str) -> int:
    """The status of a list of sessions by nginx for these credentials, or 0 without a connection."""
    headers = (
        {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"} if credentials else {}
    )
    with closing(HTTPConnection("127.0.0.1", 80, timeout=10)) as http:
        try:
            http.request("GET", "/api/v1/sessions", headers=headers)
            return http.getresponse().status
        except OSError:
            return 0


@full_with_buildah
def test_services_of_compose_work_together(buildah: Buildah, host: Path) -> None:
    """All share this host's network, so the addresses are others than those of compose.yaml."""
    environ = dict(SERVICES["mai-sessions"]["environment"])
    environ["DATABASE_URL"] = environ["DATABASE_URL"].replace("@postgres/", "@127.0.0.1/")
    environ["MAI_SESSIONS_TRUSTED_PROXIES"] = "127.0.0.1"
    is_ready = ["chroot", str(host), *SERVICES["postgres"]["healthcheck"]["test"][1:]]
    is_healthy = re.findall(r'"([^"]+)"', DOCKERFILE.partition("HEALTHCHECK")[2].partition("\n")[0])
    with running_in(host, start_postgres()):
        wait_until(lambda: succeeds(is_ready))
        with running_image(buildah, **environ) as container:
            wait_until(lambda: succeeds(buildah.run(container, *is_healthy)))
            with running_in(host, shlex.join(SERVICES["nginx"]["command"])):
                wait_until(lambda: status("me:change-me") == 200)
                assert status("me:wrong") == status("") == 401


@full
def test_steps_of_the_dockerfile_in_a_root(bare_debian: Path, wheels: Path, tmp_path: Path) -> None:
    """The RUN and COPY steps of both stages, in one root: for hosts without a builder."""
    root = tmp_path / "root"
    subprocess.run(["cp", "--archive", bare_debian, root], check=True)
    shutil.copytree(wheels, root / "wheels")
    copy_tree(root / "src")
    lines = re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
    steps = [f"( {line.removeprefix('RUN ')} ) || exit 1" for line in lines if line.startswith("RUN ")]
    checks = """
        ! test -e /opt/mai-sessions/bin/pip
        ! command -v gcc
        runuser -u mai-sessions -- /opt/mai-sessions/bin/mai-sessions config
    """
    assert "MAI_SESSIONS_AUTH=none" in run_in(root, "\n".join([*steps, checks]))
    subprocess.run(["rm", "--recursive", "--force", "--one-file-system", root], check=True)
