from service.search.provenance import changes, code_fingerprint, versions


def test_nothing_changed_says_nothing():
    now = versions()
    assert changes(now, code_fingerprint(), now, code_fingerprint()) == []


def test_each_difference_is_named_with_both_values():
    then = {**versions(), "torch": "1.0"}
    found = changes(then, "abc", versions(), code_fingerprint())
    assert any(text.startswith("torch: 1.0 then, ") for text in found)
    assert any(text.startswith("isoflop's own code: abc then, ") for text in found)
    assert len(found) == 2


def test_versions_name_what_may_change_a_number():
    assert {"python", "torch", "numpy", "optuna", "codecarbon"} <= set(versions())
