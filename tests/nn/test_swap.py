"""`gs.nn.swap`: the same model on gradsmith's ops, and back."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import gradsmith as gs
import gradsmith.nn as gnn
from gradsmith.nn import Swap, SwapError, swap
from gradsmith.nn.swap import REPLACEMENTS, Kept


class Block(nn.Module):
    """One of everything, in a residual block."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(2 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.down(self.act(self.up(self.norm(x)))))


class Model(nn.Module):
    """A classifier of sequences of tokens that computes its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.RMSNorm(16)
        self.gate = nn.SiLU()
        self.head = nn.Linear(16, 11)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.loss(self.head(self.gate(self.norm(x))).transpose(1, 2), tokens)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model()


@pytest.fixture
def tokens() -> Tensor:
    return torch.arange(33).reshape(3, 11) % 11


def gradients(model: Model, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(1)
    loss = model(tokens)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def classes(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


def test_every_replacement_is_a_subclass_with_the_same_constructor() -> None:
    for old, new in REPLACEMENTS.items():
        assert issubclass(new, old)
        assert new.__init__ is old.__init__
        assert new.__name__ == old.__name__
        assert getattr(gnn, new.__name__) is new


def test_layers_and_losses_change_their_class_in_place(model: Model) -> None:
    before = list(model.modules())
    found = swap(model)
    assert [a is b for a, b in zip(before, model.modules(), strict=True)]
    assert type(model.head) is gnn.Linear
    assert type(model.loss) is gnn.CrossEntropyLoss
    assert {"head", "loss", "blocks.0.up", "blocks.1.down"} <= {entry.path for entry in found.swapped}


def test_the_swapped_model_computes_the_same_loss_and_gradients(model: Model, tokens: Tensor) -> None:
    model.eval()
    loss, expected = gradients(model, tokens)
    swap(model)
    ours, found = gradients(model, tokens)
    assert torch.allclose(loss, ours, rtol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-6), name


def test_within_recompute_saves_the_gradients_are_the_same_to_the_last_bit(model: Model, tokens: Tensor) -> None:
    wide = tokens.repeat(8, 8)  # enough elements that outputs are not kept
    swap(model)
    _, expected = gradients(model, wide)
    with gs.recompute_saves():
        _, found = gradients(model, wide)
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_it_trains_with_the_optimizer_made_before(model: Model, tokens: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swap(model)
    first, _ = gradients(model, tokens)
    for _ in range(10):
        gradients(model, tokens)
        optimizer.step()
    last, _ = gradients(model, tokens)
    assert last < 0.8 * first


def test_undo_restores_every_class_and_keeps_the_weights(model: Model) -> None:
    before = classes(model)
    found = swap(model)
    weight = model.head.weight
    found.undo()
    assert classes(model) == before
    assert model.head.weight is weight
    found.undo()  # a second time does nothing
    assert classes(model) == before


def test_as_a_context_manager_it_ends_with_the_block(model: Model) -> None:
    before = classes(model)
    with swap(model) as found:
        assert found.swapped
        assert classes(model) != before
    assert classes(model) == before


def test_a_class_changed_after_the_swap_keeps_everything_from_being_undone(model: Model) -> None:
    found = swap(model)
    nn.utils.parametrizations.weight_norm(model.head)
    swapped = classes(model)
    with pytest.raises(SwapError, match="cannot undo head: it became gradsmith's Linear and is a ParametrizedLinear"):
        found.undo()
    assert classes(model) == swapped


def test_swaps_nest(model: Model) -> None:
    before = classes(model)
    outer = swap(model.blocks)
    inner = swap(model)
    assert "blocks.0.up" not in {entry.path for entry in inner.swapped}
    inner.undo()
    outer.undo()
    assert classes(model) == before


def test_a_single_layer_or_loss_may_be_swapped() -> None:
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    found = swap(loss)
    assert type(loss) is gnn.CrossEntropyLoss
    assert loss.label_smoothing == 0.1
    assert [entry.path for entry in found.swapped] == [""]


def test_a_module_used_twice_is_swapped_once() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    found = swap(model)
    assert len(found.swapped) == 1
    assert model[0] is model[2]
    found.undo()
    assert type(layer) is nn.Linear


def test_state_dicts_are_the_same_either_way(model: Model) -> None:
    plain = Model()
    swap(model)
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(plain.state_dict())
    assert list(model.state_dict()) == list(plain.state_dict())


def test_copies_and_pickles_of_a_swapped_model_are_swapped(model: Model) -> None:
    swap(model)
    assert classes(copy.deepcopy(model)) == classes(model)
    assert classes(pickle.loads(pickle.dumps(model))) == classes(model)


def test_hooks_still_run(model: Model, tokens: Tensor) -> None:
    seen: list[str] = []
    model.head.register_forward_hook(lambda *_: seen.append("head"))
    swap(model)
    model(tokens)
    assert seen == ["head"]


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_subclasses_are_left_alone_and_reported() -> None:
    model = nn.Sequential(Doubled(2, 2), nn.Linear(2, 2))
    found = swap(model)
    assert type(model[0]) is Doubled
    assert found.kept == (Kept("0", "Doubled is a subclass of Linear and may compute something else"),)


def test_a_forward_on_the_instance_is_left_alone_and_reported() -> None:
    layer = nn.Linear(2, 2)
    layer.forward = lambda input: input  # type: ignore[method-assign]
    found = swap(layer)
    assert type(layer) is nn.Linear
    assert found.kept == (Kept("", "a Linear with a forward of its own on the instance"),)


def test_parametrized_layers_are_left_alone() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert swap(layer).kept[0].reason.startswith("ParametrizedLinear is a subclass of Linear")


def test_further_classes_may_be_given() -> None:
    class Quiet(nn.Identity):
        pass

    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    found = swap(model, also={nn.Identity: Quiet})
    assert type(model[0]) is Quiet
    found.undo()
    assert type(model[0]) is nn.Identity


def test_a_replacement_that_is_no_subclass_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(SwapError, match="Conv1d cannot replace Linear: it must be a subclass"):
        swap(model, also={nn.Linear: nn.Conv1d})
    assert type(model[0]) is nn.Linear


def test_the_report_counts_by_class_and_groups_what_was_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), Doubled(2, 2), Doubled(2, 2))
    assert repr(swap(model)) == (
        "swapped 2 of 5 modules\n"
        "     2 Linear\n"
        "  left alone: 2 and 1 more: Doubled is a subclass of Linear and may compute something else"
    )


def test_bytes_saved_are_counted_before_and_after(model: Model, tokens: Tensor) -> None:
    model.eval()
    found = swap(model)
    swapped = classes(model)
    bytes_ = found.saved(lambda: model(tokens))
    assert classes(model) == swapped
    assert bytes_.before == sum(before for before, _ in bytes_.by_class.values())
    assert bytes_.after == sum(after for _, after in bytes_.by_class.values())
    assert 0 < bytes_.after <= bytes_.before
    assert "Linear" in bytes_.by_class
    assert str(bytes_).splitlines()[-1].startswith("all")


def test_a_replacement_that_saves_more_is_seen() -> None:
    class Hoards(nn.Identity):
        def forward(self, input: Tensor) -> Tensor:
            return input.exp() * input.exp().sin()

    model = nn.Sequential(nn.Linear(10, 10), nn.Identity())
    found = swap(model, also={nn.Identity: Hoards})
    before, after = found.saved(lambda: model(torch.ones(7, 10))).by_class["Identity"]
    assert before == 0
    assert after > 0


def test_a_call_that_raises_leaves_the_model_swapped(model: Model) -> None:
    found = swap(model)
    swapped = classes(model)
    with pytest.raises(IndexError):
        found.saved(lambda: model(torch.full((1, 2), 99)))
    assert classes(model) == swapped


def test_torch_compile_takes_the_swap_and_its_end(model: Model, tokens: Tensor) -> None:
    model.eval()
    expected, _ = gradients(model, tokens)
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        with swap(model):
            assert torch.allclose(compiled(tokens), expected, rtol=1e-5)
        assert torch.allclose(compiled(tokens), expected, rtol=1e-5)


@pytest.fixture(autouse=True)
def _fresh_graphs() -> Iterator[None]:
    yield
    torch.compiler.reset()


def test_the_result_of_swap_is_a_swap(model: Model) -> None:
    assert isinstance(swap(model), Swap)
