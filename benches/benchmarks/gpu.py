"""The cases of `make gpu-check` on the GPU at hand. asv skips them where there is none."""

from benches.gpu.cases import CASES
from benches.gpu.timing import Gpu, why_not


class Case:
    """How far the measurements of a case are within their requirements: at least 1 where all are met."""

    params = tuple(CASES)
    param_names = ("case",)
    unit = "of the requirement"

    def setup(self, case: str) -> None:
        if why_not() is not None:
            raise NotImplementedError  # asv then skips the case

    def track_margin(self, case: str) -> float:
        found = list(CASES[case](Gpu()))
        margins = [one.value / one.least for one in found if one.least is not None]
        margins += [one.most / one.value for one in found if one.most is not None]
        return min(margins, default=float("nan"))
