"""What is planned is fair and complete."""

from dataclasses import replace

from benchmarks.family.plan import ENTRIES, QUICK, Plan, Unit
from benchmarks.family.rows import test_units as units_of
from benchmarks.family.search import choose, search_units
from hybridbooth_core.methods.registry import METHODS


def test_every_registered_method_is_on_the_bench_with_an_equal_search():
    assert set(ENTRIES) == {"class_noun", *METHODS} - {"polished"}, "which benchmarks.outside measures"
    rated = {name: entry for name, entry in ENTRIES.items() if entry.rates}
    assert {len(set(entry.rates)) for entry in rated.values()} == {4}
    assert all(list(entry.rates) == sorted(entry.rates) for entry in rated.values())
    per_method = {}
    for unit in search_units(Plan()):
        per_method[unit.method] = per_method.get(unit.method, 0) + 1
    assert set(per_method) == set(rated) and set(per_method.values()) == {4 * 8}


def test_rates_are_chosen_by_identity_plus_prompt_for_few_and_for_many_steps():
    plan = Plan(methods=("dreambooth",))
    rates = plan.rates("dreambooth")
    scores = {(rates[0], 25): 0.5, (rates[1], 25): 1.2, (rates[2], 25): 1.1, (rates[3], 25): 0.2}
    scores |= {(rates[0], 100): 1.5, (rates[1], 100): 1.2, (rates[2], 100): 1.1, (rates[3], 100): 0.2}
    table = [{"method": "dreambooth", "rate": rate, "steps": steps, "score": score} for (rate, steps), score in scores.items()]
    few, many = choose(plan, table)["dreambooth"].values()
    assert few == {"rate": rates[1], "chosen_at_steps": 25, "at_edge": False}
    assert many == {"rate": rates[0], "chosen_at_steps": 100, "at_edge": True}
    units = units_of(plan, {"dreambooth": {"few": few, "many": many}})
    assert {(unit.rate, unit.keep) for unit in units} == {(rates[1], (3, 5, 10, 25)), (rates[0], (100, 300))}
    assert {unit.row for unit in units} == set(range(32))


def test_a_record_belongs_to_all_that_it_depends_on():
    unit = Unit("test", "dreambooth", 1e-4, 3, (3, 5))
    others = [replace(unit, rate=2e-4), replace(unit, row=4), replace(unit, keep=(3,)), replace(unit, split="tune")]
    plans = [Plan(), Plan(prompts=7), Plan(sampling_steps=9), Plan(batch=2), Plan(prior_images=9), Plan(token="an"), Plan(seeds=(0, 2))]
    keys = [unit.key(Plan(), "x"), unit.key(Plan(), "y"), *(other.key(Plan(), "x") for other in others)]
    keys += [unit.key(plan, "x") for plan in plans[1:]]
    assert len(set(keys)) == len(keys)
    assert unit.key(Plan(identities=64), "x") == keys[0], "more creatures do not make old ones stale"
    embeddings = Unit("test", "textual_inversion", 1e-2, 3, (3, 5))
    assert embeddings.key(Plan(), "x") == embeddings.key(Plan(prior_images=9), "x"), "it has no class images"


def test_tune_and_test_creatures_cannot_meet():
    numbers = {unit.number for unit in search_units(Plan())}
    assert numbers == set(range(2000, 2008)) and all(unit.split == "tune" for unit in search_units(Plan()))


def test_plans_that_cannot_be_are_refused(refuses):
    assert "dreambooth" in refuses(Plan, methods=("dreamboth",))
    assert "two test identities" in refuses(Plan, identities=1)
    assert "prompts" in refuses(Plan, prompts=9)
    assert "sampling seeds" in refuses(Plan, seeds=(0,))
    assert QUICK.regimes("dreambooth") == ["few"] and QUICK.judged_at("dreambooth", "few") == 10


def test_a_new_probe_makes_its_own_methods_stale_and_nothing_else(tmp_path):
    from benchmarks.family.subjects import inputs_digest

    for name in ("base", "autoencoder", "readers", "probe", "clip_space", "hypernetwork", "instantbooth"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    before = {method: inputs_digest(method, tmp_path) for method in ENTRIES}
    (tmp_path / "probe.safetensors").write_bytes(b"better")
    stale = {method for method in ENTRIES if inputs_digest(method, tmp_path) != before[method]}
    assert stale == {"encoder_only", "hybridbooth"}
    (tmp_path / "readers.safetensors").write_bytes(b"other")
    assert all(inputs_digest(method, tmp_path) != before[method] for method in ENTRIES)
