"""Custom gradients for PyTorch: write one, check it, ship it."""

from gradsmith.define.classic import Function as Function
from gradsmith.define.errors import CallError as CallError
from gradsmith.define.errors import ContextWarning as ContextWarning
from gradsmith.define.errors import DefinitionError as DefinitionError
from gradsmith.define.errors import FormulaError as FormulaError
from gradsmith.define.errors import GradsmithError as GradsmithError
from gradsmith.define.errors import MissingFormula as MissingFormula
from gradsmith.define.errors import SecondDerivativeError as SecondDerivativeError
from gradsmith.define.keep import constant as constant
from gradsmith.define.keep import keep as keep
from gradsmith.define.op import Op as Op
from gradsmith.define.op import op as op
from gradsmith.define.opaque import Opaque as Opaque
from gradsmith.define.opaque import opaque as opaque
