"""CHECK: one question a file about any custom gradient, and a diagnosis."""

from gradsmith.check.battery import check as check
from gradsmith.check.battery import check_case as check_case
from gradsmith.check.case import Case as Case
from gradsmith.check.finding import Finding as Finding
from gradsmith.check.finding import Location as Location
from gradsmith.check.finding import Skipped as Skipped
from gradsmith.check.record import Recording as Recording
from gradsmith.check.record import record as record
from gradsmith.check.report_data import Checked as Checked
from gradsmith.check.report_data import Report as Report
