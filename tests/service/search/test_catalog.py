from service.search.catalog import settings


def test_every_setting_has_its_own_meaning_and_readable_values():
    rows = {row["path"]: row for row in settings()}
    assert [path for path, row in rows.items() if not row["meaning"]] == []
    assert rows["optimizer.lr"]["meaning"].startswith("Peak learning rate")
    assert rows["data.standardise"]["meaning"].startswith("Subtract the mean")
    assert rows["model.dropout"]["values"] == "number >= 0 < 1"
    assert rows["optimizer.alpha"]["values"] == "number > 0 < 1 | None"
    assert rows["train.loss"]["values"] == "auto | cross_entropy | half_mse"
