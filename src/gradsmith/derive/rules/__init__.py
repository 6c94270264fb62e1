"""The rules by which `derive` differentiates: a flat table, a family a file."""

from gradsmith.derive.rules import elementwise as elementwise
from gradsmith.derive.rules import losses as losses
from gradsmith.derive.rules import products as products
from gradsmith.derive.rules import reductions as reductions
from gradsmith.derive.rules import views as views
from gradsmith.derive.rules.table import RULES as RULES
from gradsmith.derive.rules.table import Rule as Rule
