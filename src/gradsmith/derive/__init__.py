"""DERIVE: a plain forward is traced, differentiated by rules, and printed as the source of an op."""

from gradsmith.derive.derive import Derived as Derived
from gradsmith.derive.derive import derive as derive
from gradsmith.derive.errors import DeriveError as DeriveError
