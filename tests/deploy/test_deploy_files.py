"""All of deploy/ parses, fits its schema, and agrees with the rest on versions and names."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = ROOT.parent / "shared" / "data" / "kuberay"
YAML_FILES = sorted(DEPLOY.rglob("*.yaml"))
IMAGES = re.compile(r"image: (\S+)")


def load(path):
    return YAML(typ="safe").load(path)


def pinned(package):
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version
    raise AssertionError(f"{package} is not pinned")


def tool(name):
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed on this platform")
    return found


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_is_clean(path):
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
    rules += (
        "braces: disable, brackets: disable, comments: disable, comments-indentation: disable}}"
    )
    checked = subprocess.run(
        [tool("yamllint"), "-s", "-d", rules, str(path)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_the_dockerfile_passes_hadolint():
    checked = subprocess.run(
        [tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def closed(schema):
    """Refuse what a schema does not name, as the API server would drop it silently."""
    if isinstance(schema, dict):
        inner = {key: closed(value) for key, value in schema.items()}
        if "properties" in inner and not inner.get("x-kubernetes-preserve-unknown-fields"):
            inner.setdefault("additionalProperties", False)
        return inner
    return [closed(item) for item in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("kind", ["raycluster", "rayjob"])
def test_kuberay_manifests_fit_their_schema(kind):
    path = SCHEMAS / f"{kind}.v1.schema.json"
    if not path.exists():
        pytest.skip("the KubeRay schemas are not beside the project")
    jsonschema = pytest.importorskip("jsonschema")
    schema = closed(json.loads(path.read_text()))
    manifest = load(DEPLOY / "kuberay" / f"{kind}.yaml")
    jsonschema.validate(manifest, schema)
    manifest["spec"]["shutdownAfterJobFinishe"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, schema)


def pods(manifest):
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return spec, [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("kind", ["raycluster", "rayjob"])
def test_kuberay_pods_are_safe_and_bounded(kind):
    spec, templates = pods(load(DEPLOY / "kuberay" / f"{kind}.yaml"))
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"]["mode"] == "token"
    for pod in templates:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["terminationGracePeriodSeconds"] >= 60
        for container in pod["containers"]:
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert {"readinessProbe", "livenessProbe"} <= set(container)
            env = {one["name"]: one.get("value") for one in container["env"]}
            assert env["RAY_AUTH_MODE"] == "token"


def test_a_job_is_submitted_in_a_mode_that_exists():
    job = load(DEPLOY / "kuberay" / "rayjob.yaml")["spec"]
    modes = ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    assert job["submissionMode"] in modes
    assert job["entrypoint"].startswith("isoflop search /etc/isoflop/spec.yaml")


def test_images_are_pinned_and_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for path in YAML_FILES:
        for image in IMAGES.findall(path.read_text()):
            name, _, tag = image.rpartition(":")
            assert name, f"{image} has no tag"
            assert tag != "latest"
            if name == "isoflop":
                assert tag == f"{version}-cpu"


def test_versions_agree_with_what_was_tested():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert set(re.findall(r"torch==([\d.]+)", dockerfile)) == {pinned("torch")}
    assert f"'{pinned('ray')}'" in (DEPLOY / "ray-up.yaml").read_text()
    base = re.findall(r"FROM python:(\d+\.\d+)", dockerfile)
    assert set(base) == {"3.11"}
    assert re.findall(r"USER (\d+)", dockerfile) == ["1000"]


def test_token_mode_is_explicit_wherever_ray_starts():
    compose = load(DEPLOY / "compose.yaml")
    for name in ("head", "worker", "service"):
        assert compose["services"][name]["environment"]["RAY_AUTH_MODE"] == "token"
    machines = load(DEPLOY / "ray-up.yaml")
    for role in ("head", "worker"):
        starts = [c for c in machines[f"{role}_start_ray_commands"] if "ray start" in c]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]


def test_compose_keeps_ray_private_and_bounds_everything():
    services = load(DEPLOY / "compose.yaml")["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
        assert service["deploy"]["resources"]["limits"], name
    assert "ports" not in services["head"]
    assert services["head"]["shm_size"] == "2gb"
    assert "--block" in services["head"]["command"]
    text = (DEPLOY / "compose.yaml").read_text()
    assert "PASSWORD:" not in text.replace("PASSWORD__FILE:", "").replace("PASSWORD_FILE:", "")


def test_the_services_config_is_one_that_the_service_reads():
    from service.jobs.settings import ServiceSettings

    settings = ServiceSettings.from_yaml(DEPLOY / "service.yaml")
    assert settings.cluster.address == "http://head:8265"
    assert settings.ledger.url_file is not None


def test_boards_ask_for_metrics_that_exist():
    from service.web.metrics import NAMES

    board = json.loads((DEPLOY / "grafana" / "isoflop.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"isoflop_\w+", target["expr"])
    }
    assert asked
    assert asked <= set(NAMES)
