"""Nothing that was measured is lost, whenever the bench is killed."""

import pytest

from benchmarks.family.store import Store


def test_records_come_back(tmp_path):
    store = Store(tmp_path / "work")
    store.add("test/a/1", {"x": [1, 2.5]})
    store.add("test/b/1", {"x": 2})
    again = Store(tmp_path / "work")
    assert len(again) == 2 and again["test/a/1"] == {"x": [1, 2.5]} and "test/c/1" not in again


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    store = Store(tmp_path)
    store.add("test/a/1", {"x": 1})
    store.add("test/b/1", {"x": 2})
    text = store.path.read_text()
    store.path.write_text(text[:-5])
    again = Store(tmp_path)
    assert "test/a/1" in again and "test/b/1" not in again
    again.add("test/b/1", {"x": 3})
    assert Store(tmp_path)["test/b/1"] == {"x": 3} and store.path.read_text().count("\n") == 2


def test_a_method_can_be_forgotten(tmp_path):
    store = Store(tmp_path)
    for key in ("test/a/1", "tune/a/2", "test/b/1"):
        store.add(key, {})
    assert store.forget("a") == 2 and store.forget("a") == 0
    assert len(Store(tmp_path)) == 1


def test_damage_and_bad_places_are_one_sentence(tmp_path, refuses):
    (tmp_path / "units.jsonl").write_text("nonsense\n")
    assert "damaged" in refuses(Store, tmp_path)
    (tmp_path / "file").touch()
    assert "cannot be used" in refuses(Store, tmp_path / "file" / "work")


@pytest.mark.parametrize("count", [1, 3])
def test_of_one_key_the_last_record_counts(tmp_path, count):
    store = Store(tmp_path)
    for value in range(count):
        store.add("test/a/1", {"x": value})
    assert len(Store(tmp_path)) == 1 and Store(tmp_path)["test/a/1"] == {"x": count - 1}
