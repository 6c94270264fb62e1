"""MEASURE: what a function with its gradient costs, beside what it is to replace and what the machine allows."""

from gradsmith.profile.measure import profile as profile
from gradsmith.profile.result import Measurement as Measurement
from gradsmith.profile.result import Profile as Profile
from gradsmith.profile.sizes import Sweep as Sweep
from gradsmith.profile.sizes import sweep as sweep
from gradsmith.profile.work import ProfileError as ProfileError
