"""Facts about the world that the lecture errs in: the book says what is right beside the page."""

from __future__ import annotations

import re

import pytest

from service.lecture.errata import errata
from service.lecture.pages import pages

# Bartunov et al. (2018), table 1: test errors in %.
MNIST_FC = {
    "BP": 1.48, "FA": 1.85, "DFA": 2.75, "DTP": (2.86, 1.83), "SDTP": (3.52, 2.28),
    "AO-SDTP": (2.93, 1.86),
}  # fmt: skip
IMAGENET_LC = {"DTP parallel": 98.34, "DTP alternating": 99.36, "SDTP parallel": 99.28, "FA": 93.08}
IMAGENET_BP = 71.43


def text_of(number: int) -> str:
    """Everything that the book says on a page but the lecture's own column."""
    page = pages()[number - 1]
    said = [page.about]
    for claim in page.claims:
        said += [claim.what, claim.published, claim.differs]
    return " ".join(said)


@pytest.mark.parametrize(
    ("erratum", "page", "phrases"),
    [
        (5, 26, ("result of 2012", "standard since 1986")),
        (12, 32, ("no source; 1.7-1.8 %", "1.48 % fully connected")),
        (13, 32, ("SoftHebb", "99 % on MNIST")),
        (14, 34, ("the table is MNIST only",)),
        (15, 34, ("not on this table; true on CIFAR and ImageNet",)),
        (33, 63, ("top-1 76.1 % at 50 layers", "1001 layers were trained on CIFAR")),
        (34, 63, ("90.17 %", "84.0 % on ImageNet-V2", "1536 x 1536")),
        (35, 63, ("about one megapixel", "DALL-E 2")),
        (39, 8, ("26 distinguishable synaptic sizes",)),
        (40, 10, ("Hubel (1962, Journal of Physiology)", "Bruce (1981, Journal of Neurophysiology)",
                  "Albin (1989, Trends in Neurosciences)", "Buxhoeveden (2002, Brain)")),
        (41, 4, ("Fan Hui in October 2015, Lee Sedol in March 2016",)),
        (41, 5, ("Self-play is reinforcement learning",)),
    ],
)  # fmt: skip
def test_the_book_says_what_is_right_beside_the_page(erratum, page, phrases):
    assert page in errata()[erratum - 1].pages
    for phrase in phrases:
        assert phrase in text_of(page)


def test_page_34_is_the_papers_mnist_table():
    """Each cell that the page prints is the fully connected test error, whatever its heading."""
    said = {claim.what.split(",")[0]: claim for claim in pages()[33].claims}
    for method, errors in MNIST_FC.items():
        claim = said[method]
        printed = [float(number) for number in re.findall(r"(\d\.\d\d) %", claim.lecture)]
        assert printed == list(errors if isinstance(errors, tuple) else (errors,))


def test_the_alternatives_are_near_backprop_on_mnist_and_far_on_imagenet():
    best = {method: min(e) if isinstance(e, tuple) else e for method, e in MNIST_FC.items()}
    assert all(error - best["BP"] < 1.3 for error in best.values())
    assert best["DTP"] - best["BP"] < 0.4
    assert min(IMAGENET_LC.values()) - IMAGENET_BP > 20
