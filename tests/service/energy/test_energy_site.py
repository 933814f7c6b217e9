"""Country, PUE and price: validated, never guessed."""

import pytest

from service.energy import Site
from service.energy.site import country_data
from trainers.errors import SiteError


def test_without_a_country_co2_is_not_computed():
    site = Site.from_environment({})
    assert site.co2e_kg(1.0) is None
    assert "not computed: set ISOFLOP_COUNTRY" in site.describe()
    assert "assumed" in site.pue_source


def test_with_a_country_co2_is_energy_times_pue_times_intensity():
    site = Site.from_environment({"ISOFLOP_COUNTRY": "FRA", "ISOFLOP_PUE": "1.5"})
    intensity = country_data()["FRA"]["carbon_intensity"]
    assert site.co2e_kg(2.0) == pytest.approx(2.0 * 1.5 * intensity / 1000)
    assert site.facility_kwh(2.0) == 3.0
    assert site.intensity_year == 2023
    for word in ("France", "FRA", "56", "2023", "PUE 1.5"):
        assert word in site.describe()


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("DE", "DEU"),
        ("UK", "GBR"),
        ("fra", "FRA"),
        ("Germany", "DEU"),
        ("united states", "USA"),
        ("Frence", "FRA"),
        ("DEUU", "DEU"),
    ],
)
def test_a_misspelt_country_is_refused_and_the_code_offered(asked, offered):
    with pytest.raises(SiteError, match=offered) as error:
        Site.from_environment({"ISOFLOP_COUNTRY": asked})
    assert asked in str(error.value)


def test_11_a_code_codecarbon_would_answer_with_the_world_average_is_refused():
    with pytest.raises(SiteError, match="XQX"):
        Site.from_environment({"ISOFLOP_COUNTRY": "XQX"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ISOFLOP_PUE", "0.9"),
        ("ISOFLOP_PUE", "good"),
        ("ISOFLOP_PUE", "nan"),
        ("ISOFLOP_PRICE_PER_KWH", "-1"),
    ],
)
def test_impossible_numbers_are_refused_by_name(name, value):
    with pytest.raises(SiteError, match=name):
        Site.from_environment({name: value})


def test_a_price_makes_a_cost():
    assert Site.from_environment({"ISOFLOP_PRICE_PER_KWH": "0.3"}).cost(10) == pytest.approx(3.0)
    assert Site.from_environment({}).cost(10) is None


def test_a_budget_in_co2_needs_a_country():
    with pytest.raises(SiteError, match="ISOFLOP_COUNTRY"):
        Site.from_environment({}).require_country()
    Site.from_environment({"ISOFLOP_COUNTRY": "FIN"}).require_country()
