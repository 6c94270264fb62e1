"""SHIP: differentiable functions whose gradients are written by hand, a family a file."""

from gradsmith.catalog.cross_entropy import cross_entropy as cross_entropy
from gradsmith.catalog.exp import exp as exp
from gradsmith.catalog.linear import linear as linear
from gradsmith.catalog.table import CATALOG as CATALOG
