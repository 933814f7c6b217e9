"""Energy: one meter per host, windows of time, and attribution that always adds up."""

from service.energy.accounts import EnergyAccounts, accounts, cost_kwh
from service.energy.attribution import Attribution, Spent, attribute
from service.energy.host import HostMeter, WindowMaker
from service.energy.meter import CodeCarbonMeter, Meter, MeterFacts, Reading
from service.energy.session import EnergySession
from service.energy.site import Site
from service.energy.windows import Window, member_key

__all__ = [
    "Attribution",
    "CodeCarbonMeter",
    "EnergyAccounts",
    "EnergySession",
    "HostMeter",
    "Meter",
    "MeterFacts",
    "Reading",
    "Site",
    "Spent",
    "Window",
    "WindowMaker",
    "accounts",
    "attribute",
    "cost_kwh",
    "member_key",
]
