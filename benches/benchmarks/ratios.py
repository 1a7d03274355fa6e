"""Ratios of times that were measured in turn in one run: those of the speed table, and those of the kernels."""

from opuproj import _core

from benches import cases, check, machine
from benches.setting import Setting, UnavailableError


class Case:
    """One number a case; `benches.cases` says what each of them compares."""

    params = tuple(cases.CASES)
    param_names = ("case",)
    unit = "ratio"

    def track_ratio(self, case: str) -> float:
        try:
            return cases.run(case, Setting(_core.choose_isa(None), min(2, machine.cores()))).ratio
        except UnavailableError:
            return float("nan")


class Kernel:
    """Each kernel against its own limits, on one thread, as `make bench-check` has it."""

    params = (["amx", "avx512", "avx2", "portable"], check.FORMS)
    param_names = ("isa", "form")
    unit = "ratio"

    def setup(self, isa: str, form: str) -> None:
        if f"{isa}, {form}" not in check.kernels():
            raise NotImplementedError  # asv then skips the combination

    def track_ratio(self, isa: str, form: str) -> float:
        return check.measure(f"{isa}, {form}")
