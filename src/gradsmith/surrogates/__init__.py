"""SHIP: gradients that on purpose are not the derivative of the forward, a family a file."""

from gradsmith.surrogates.curves import Curve as Curve
from gradsmith.surrogates.curves import atan as atan
from gradsmith.surrogates.curves import boxcar as boxcar
from gradsmith.surrogates.curves import exponential as exponential
from gradsmith.surrogates.curves import fast_sigmoid as fast_sigmoid
from gradsmith.surrogates.curves import gaussian as gaussian
from gradsmith.surrogates.curves import sigmoid as sigmoid
from gradsmith.surrogates.curves import triangle as triangle
from gradsmith.surrogates.heaviside import heaviside as heaviside
from gradsmith.surrogates.modifiers import grad_clip as grad_clip
from gradsmith.surrogates.modifiers import grad_reverse as grad_reverse
from gradsmith.surrogates.modifiers import grad_scale as grad_scale
from gradsmith.surrogates.rounding import ceil_ste as ceil_ste
from gradsmith.surrogates.rounding import floor_ste as floor_ste
from gradsmith.surrogates.rounding import round_ste as round_ste
from gradsmith.surrogates.rounding import trunc_ste as trunc_ste
from gradsmith.surrogates.sign import sign_ste as sign_ste
from gradsmith.surrogates.straight_through import straight_through as straight_through
from gradsmith.surrogates.surrogate import surrogate as surrogate
