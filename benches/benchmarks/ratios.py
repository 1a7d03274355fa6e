"""Ratios of times measured in turn in one run, for the speed table and for the kernels."""

from opuproj import _core

from benches import cases, check, machine
from benches.setting import Setting, UnavailableError


class Case:
    """One number per case; `benches.cases` describes the comparison."""

    params = tuple(cases.CASES)
    param_names = ("case",)
    unit = "ratio"

    def track_ratio(self, case: str) -> float:
        try:
            return cases.run(case, Setting(_core.choose_isa(None), min(2, machine.cores()))).ratio
        except UnavailableError:
            return float("nan")


class Kernel:
    """Each kernel against its own limits on one thread, as in `make bench-check`."""

    params = (["amx", "avx512", "avx2", "portable"], check.FORMS)
    param_names = ("isa", "form")
    unit = "ratio"

    def setup(self, isa: str, form: str) -> None:
        if f"{isa}, {form}" not in check.kernels():
            raise NotImplementedError  # asv then skips the combination

    def track_ratio(self, isa: str, form: str) -> float:
        return check.measure(f"{isa}, {form}")
