"""Custom gradients for PyTorch: write one, check it, ship it."""

from gradsmith import catalog as catalog
from gradsmith import nn as nn
from gradsmith import surrogates as surrogates
from gradsmith.catalog import cross_entropy as cross_entropy
from gradsmith.catalog import exp as exp
from gradsmith.catalog import linear as linear
from gradsmith.check import Finding as Finding
from gradsmith.check import Report as Report
from gradsmith.check import check as check
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
from gradsmith.memory import reuse_memory as reuse_memory
from gradsmith.surrogates.straight_through import straight_through as straight_through
from gradsmith.surrogates.surrogate import surrogate as surrogate
