"""The checks: one question a file, and the table that names them."""

from gradsmith.check.checks._table import CHECKS as CHECKS
from gradsmith.check.checks._table import CODES as CODES
from gradsmith.check.checks._table import Check as Check
