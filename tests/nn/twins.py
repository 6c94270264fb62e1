"""A module of ours and torch's of the same name, for tests that hold one beside the other."""

import torch

from gradsmith import nn


def made(name, args, options):
    """Ours and torch's, made from the same seed."""
    modules = []
    for library in (nn, torch.nn):
        torch.manual_seed(3)
        modules.append(getattr(library, name)(*args, **options))
    return modules
