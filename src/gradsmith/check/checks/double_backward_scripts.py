"""Plain torch that shows a second derivative beside what it should be: in the inputs, and in the upstream."""

from __future__ import annotations


def script(constant: bool) -> str:
    grad = "" if constant else ".requires_grad_()"
    return "\n".join(
        [
            "inputs = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
            "def ramp(x):",
            "    return torch.linspace(1, 2, x.numel()).to(x.dtype).reshape(x.shape)",
            "def first():",
            "    torch.manual_seed(0)",
            "    out = {call}",
            "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
            f"    upstream = [ramp(o){grad} for o in outputs]",
            "    grads = torch.autograd.grad(",
            "        outputs, inputs, upstream, create_graph=True, allow_unused=True)",
            "    return sum((g * ramp(g)).sum() for g in grads if g is not None).real",
            "total = first()",
            "seconds = [None] * len(inputs)",
            "if total.requires_grad:",
            "    seconds = torch.autograd.grad(total, inputs, allow_unused=True)",
            "for i, (leaf, second) in enumerate(zip(inputs, seconds)):",
            "    h, kept = 1e-6, leaf.detach().clone()",
            "    with torch.no_grad():",
            "        leaf.copy_(kept + h * ramp(leaf))",
            "    ahead = first().item()",
            "    with torch.no_grad():",
            "        leaf.copy_(kept - h * ramp(leaf))",
            "    behind = first().item()",
            "    with torch.no_grad():",
            "        leaf.copy_(kept)",
            "    double = 0.0 if second is None else (second * ramp(leaf)).sum().item()",
            "    slope = (ahead - behind) / (2 * h)",
            "    print(i, 'double backward:', double, 'difference of the first:', slope)",
        ]
    )


SCRIPT_OF_UPSTREAM = "\n".join(
    [
        "inputs = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "def ramp(x):",
        "    return torch.linspace(1, 2, x.numel()).to(x.dtype).reshape(x.shape)",
        "torch.manual_seed(0)",
        "out = {call}",
        "outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "upstream = [ramp(o).requires_grad_() for o in outputs]",
        "sent = [u.detach().clone() for u in upstream]",
        "grads = torch.autograd.grad(outputs, inputs, upstream, create_graph=True, allow_unused=True)",
        "total = sum((g * ramp(g)).sum() for g in grads if g is not None).real",
        "zeros = [None] * len(upstream)",
        "second = torch.autograd.grad(total, upstream, allow_unused=True) if total.requires_grad else zeros",
        "double = sum((g * u).sum().item() for g, u in zip(second, sent) if g is not None)",
        "# backward is linear in the upstream, so that its derivative times the upstream is itself",
        "print('0 double backward:', double, 'difference of the first:', total.item())",
    ]
)
