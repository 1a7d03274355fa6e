"""Peak resident memory of one call, which should be that of Python, the vectors and the result."""

import opuproj

from benches import inputs


class Outputs:
    """The result grows, up to 40 MB; the matrix would take 80 TB."""

    params = (100_000, 1_000_000, 10_000_000)
    param_names = ("n_outputs",)

    def setup(self, n_outputs: int) -> None:
        self.x = inputs.sparse(1, 1_000_000, 1e-3)

    def peakmem_project(self, n_outputs: int) -> None:
        opuproj.project(self.x, n_outputs)


class Inputs:
    """The vector grows, the result does not."""

    params = (1_000, 10_000, 100_000, 1_000_000)
    param_names = ("n_inputs",)

    def setup(self, n_inputs: int) -> None:
        self.x = inputs.dense(1, n_inputs)

    def peakmem_project(self, n_inputs: int) -> None:
        opuproj.project(self.x, 10_000)


class Batch:
    """Vectors and results grow together, a thousand of each at most."""

    params = (1, 32, 256, 1024)
    param_names = ("batch",)

    def setup(self, batch: int) -> None:
        self.x = inputs.dense(batch, 10_000)

    def peakmem_project(self, batch: int) -> None:
        opuproj.project(self.x, 1_000)
