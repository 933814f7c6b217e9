"""Invariants 2 and 10-12 with the real CodeCarbon."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from service.energy import CodeCarbonMeter
from service.energy.meter import _cpu_model_name
from trainers.errors import MeterError


def run(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_10_constant_power_gives_power_times_time_and_2_the_trackers_own_total():
    meter = CodeCarbonMeter(ram_w=20.0)
    meter.start()
    first, started_s = meter.read(), time.monotonic()
    joules = 0.0
    last = first
    for _ in range(6):
        time.sleep(0.25)
        now = meter.read()
        joules += now.ram_j - last.ram_j
        last = now
    seconds = time.monotonic() - started_s
    meter.stop()
    assert joules == pytest.approx(20.0 * seconds, rel=0.01)
    final = meter._tracker.final_emissions_data
    assert last.ram_j == pytest.approx(final.ram_energy * 3.6e6, abs=0.2 * 20.0)
    assert last.cpu_j <= final.cpu_energy * 3.6e6 + 1e-9


def test_11_the_meter_opens_no_socket_and_prints_nothing():
    said = run(
        """
        import sys
        import requests  # urllib3 binds ::1 once on import, to see whether there is IPv6
        seen = []
        sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket")
                         and event not in ("socket.gethostname",) else None)
        from service.energy import CodeCarbonMeter
        meter = CodeCarbonMeter()
        meter.start(); meter.read(); meter.stop()
        print(sorted(set(seen)))
        """
    )
    assert said.strip() == "[]"


def test_11_codecarbons_variables_and_files_have_no_say(tmp_path):
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\nforce_ram_power=900\npue=7\n")
    code = """
        from service.energy import CodeCarbonMeter
        meter = CodeCarbonMeter(ram_w=10.0)
        meter.start(); tracker = meter._tracker
        print(tracker._pue, tracker._force_ram_power, tracker._tracking_mode,
              tracker._output_methods, tracker._api_call_interval, tracker._force_cpu_power,
              tracker._electricitymaps_api_token or None, tracker._emissions_endpoint)
        meter.stop()
        """
    said = run(
        code,
        HOME=str(tmp_path),
        CODECARBON_PUE="3",
        CODECARBON_TRACKING_MODE="process",
        CODECARBON_FORCE_CPU_POWER="500",
        CODECARBON_OUTPUT_METHODS="csv",
        CODECARBON_API_CALL_INTERVAL="1",
        CODECARBON_CO2_SIGNAL_API_TOKEN="secret",
        CODECARBON_ELECTRICITYMAPS_API_TOKEN="secret",
        CODECARBON_EMISSIONS_ENDPOINT="http://localhost:1",
    )
    assert said.split() == ["1.0", "10.0", "machine", "[]", "-1", "None", "None", "False"]


def test_11_a_gpu_that_codecarbon_does_not_monitor_is_a_hard_error():
    meter = CodeCarbonMeter(gpu_indices=(4096,))
    with pytest.raises(MeterError, match="GPU"):
        meter.start()
    meter.stop()


def test_12_facts_say_by_what_method_and_whether_the_idle_floor_is_known():
    meter = CodeCarbonMeter()
    facts = meter.start()
    meter.stop()
    assert facts.meter.startswith("codecarbon 3.3")
    assert set(facts.methods) == {"cpu", "ram", "gpu"}
    if facts.methods["cpu"] == "cpu_load_tdp":
        assert facts.cpu_idle_w == pytest.approx(0.1 * facts.details["tdp_w"])
        assert facts.details["tdp_source"]


@pytest.mark.skipif(not _cpu_model_name(), reason="/proc/cpuinfo names no model here")
def test_the_quick_cpu_name_is_the_one_py_cpuinfo_finds():
    import cpuinfo

    assert cpuinfo.get_cpu_info()["brand_raw"] == _cpu_model_name()
