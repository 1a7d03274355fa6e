"""The ratios of the speed table, each from times measured alternately in one run."""

from opuproj import _core

from benches import cases, machine
from benches.setting import Setting, UnavailableError


class Ratio:
    """One number a case; `benches.cases` says what each of them compares."""

    params = tuple(cases.CASES)
    param_names = ("case",)

    def track_ratio(self, case: str) -> float:
        setting = Setting(_core.choose_isa(None), min(2, machine.cores()))
        try:
            return cases.run(case, setting).ratio
        except UnavailableError:
            return float("nan")
