"""The engine of `benchmarks/mutants`: its corpus is correct, its rewritings are real, its judge is independent."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def engine():
    """The package's modules by name, its corpus loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        importlib.import_module("benchmarks.mutants.corpus")
        yield lambda name: importlib.import_module(f"benchmarks.mutants.{name}")


@pytest.fixture(scope="module")
def specimens(engine):
    return {specimen.name: specimen for specimen in engine("specimen").SPECIMENS}


@pytest.fixture(scope="module")
def trial(engine, specimens, tmp_path_factory):
    """What became of the mutant of a Function with `before` rewritten as `after`."""

    def run(name, before, after):
        specimen = specimens[name]
        chosen = [m for m in engine("rewrite").mutations(specimen.function) if (m.before, m.after) == (before, after)]
        return engine("trial").try_out(0, specimen, chosen[0], tmp_path_factory.mktemp(name))

    return run


def test_the_corpus_is_large_and_has_both_styles(specimens):
    assert len(specimens) >= 60
    new_style = [s for s in specimens.values() if "setup_context" in vars(s.function)]
    assert 10 <= len(new_style) < len(specimens)


def test_every_specimen_has_the_derivatives_of_its_reference(engine, specimens):
    effect_of, names_of = engine("effect").effect_of, engine("trial").argument_names
    for name, specimen in specimens.items():
        assert effect_of(specimen.function, specimen, names_of(specimen.function)).name == "equivalent", name


def test_every_mutation_is_another_class_and_none_comes_twice(engine, specimens):
    sources = [m.source for s in specimens.values() for m in engine("rewrite").mutations(s.function)]
    assert len(sources) == len(set(sources)) > 2000
    for source in sources[::100]:
        compile(source, "mutant", "exec")


@pytest.mark.parametrize(
    ("name", "before", "after", "effect", "code"),
    [
        ("Exp", "grad_output * out", "-(grad_output * out)", "sign", "gradient-sign"),
        ("Cube", "3", "6", "scale", "gradient-scale"),
        ("Exp", "grad_output * out", "None", "missing", "gradient-missing"),
        ("Exp", "grad_output", "torch.ones_like(grad_output)", "upstream", "gradient-ignores-upstream"),
        ("SquareMatMul", "b.transpose(-2, -1)", "b", "structure", "gradient-wrong"),
        ("Exp", "out", "out.detach()", "second derivative", "double-backward-wrong"),
        ("Product", "(grad_output * y, grad_output * x)", "(grad_output * x, grad_output * y)", "swapped",
         "gradient-swapped"),
        ("ComplexCube", "(3 * z ** 2).conj()", "3 * z ** 2", "conjugate", "gradient-conjugate"),
    ],
)  # fmt: skip
def test_an_effect_is_decided_first_and_then_named_by_the_check(trial, name, before, after, effect, code):
    result = trial(name, before, after)
    assert result.effect.name == effect
    assert result.found
    assert code in [error[0] for error in result.errors], result.errors


def test_a_mutation_that_changes_nothing_is_not_counted_and_raises_no_error(trial):
    result = trial("Contrastive", "x - y", "y - x")
    assert result.effect.name == "equivalent"
    assert not result.changes
    assert not result.errors
