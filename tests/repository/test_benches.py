"""The benchmarks measure what they say: peers multiply by their matrices, a regression is seen, figures are saved."""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ISAS, ROOT, run
from opuproj import _core

from benches import cases, check, comparison, growth, inputs, large, machine, markdown, report, saved, table
from benches.call import Call
from benches.cases import Case
from benches.figures import density, roofline, size, threads
from benches.figures.__main__ import FIGURES
from benches.figures.__main__ import main as figures
from benches.figures.effort import QUICK as LITTLE
from benches.peers import PEERS
from benches.peers.base import Peer
from benches.peers.cuda import CudaPeer
from benches.peers.cuda_int8 import FEWEST, CudaInt8
from benches.peers.part import affordable
from benches.peers.torch_stored import TorchFloat32
from benches.requirement import at_least, at_most
from benches.result import Result
from benches.setting import Setting, UnavailableError
from benches.timing import Rounds, alternate

QUICK = Setting("portable", threads=1, call_seconds=0.02, budget=0.0)


def built(peer: type[Peer], n_inputs: int, n_outputs: int) -> Peer:
    try:
        peer.check(n_inputs, n_outputs)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    return peer.build(n_inputs, n_outputs)


def as_numpy(result: Any) -> np.ndarray:
    return np.asarray(result.float().cpu() if "16" in str(result.dtype) else result)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The torch of peers of the GPU, which compute on the CPU."""
    monkeypatch.setattr(CudaPeer, "device", "cpu")
    return pytest.importorskip("torch")


# The other one of the GPU is tested in Triton's interpreter.
STORED_ON_GPU = [peer for peer in PEERS if issubclass(peer, CudaPeer) and peer.stored_bytes(1, 1)]


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_multiplies_by_its_matrix(peer: type[Peer], batch: int) -> None:
    multiplies(peer, batch)


@pytest.mark.parametrize("batch", [1, 24, 25])
@pytest.mark.parametrize("peer", STORED_ON_GPU, ids=lambda peer: peer.name)
def test_a_peer_of_the_gpu_multiplies_by_its_matrix(peer: type[Peer], batch: int, on_cpu: Any) -> None:
    multiplies(peer, batch)
    matrix = peer.build(400, 300).matrix()
    assert abs(matrix.mean()) < 5 / matrix.size**0.5
    assert abs(matrix.var() - 1) < 0.02


@pytest.mark.parametrize("peer", STORED_ON_GPU, ids=lambda peer: peer.name)
def test_a_peer_of_the_gpu_stores_what_it_says(peer: type[Peer], on_cpu: Any) -> None:
    assert vars(peer.build(30, 20))["stored"].nbytes == peer.stored_bytes(30, 20)


@pytest.mark.parametrize("peer", STORED_ON_GPU, ids=lambda peer: peer.name)
def test_a_call_on_the_gpu_counts_the_conversion_of_x(peer: type[Peer], on_cpu: Any) -> None:
    x = inputs.sparse(5, 70, 0.5)
    work = peer.build(70, 45).multiply(x)
    before = as_numpy(work()).copy()
    x *= -1  # only a call that reads x again sees this
    assert np.array_equal(as_numpy(work()), -before)


@pytest.mark.parametrize(("shape", "batch"), [((64, 48), 1), ((70, 45), 5), ((64, 48), 24), ((70, 45), 30)])
def test_an_int8_product_has_sizes_that_a_gpu_takes(
    shape: tuple[int, int], batch: int, on_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, sizes = on_cpu._int_mm, []

    def recorded(x: Any, matrix: Any) -> Any:
        sizes.append((*x.shape, matrix.shape[1]))
        return product(x, matrix)

    monkeypatch.setattr(on_cpu, "_int_mm", recorded)
    CudaInt8.build(*shape).multiply(inputs.dense(batch, shape[0]))()
    for n_vectors, n_inputs, n_outputs in sizes:
        assert n_vectors >= FEWEST > 16
        assert (n_vectors % 8, n_inputs % 8, n_outputs % 8) == (0, 0, 0)
    assert len(sizes) == 2  # the shape of the result, and the call


def test_a_peer_of_the_gpu_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for peer in STORED_ON_GPU:
        with pytest.raises(UnavailableError, match="no CUDA device"):
            peer.check(30, 20)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**9, 10**10))
    for peer in STORED_ON_GPU:
        peer.check(1000, 1000)
        with pytest.raises(UnavailableError, match="on the GPU, which has 1"):
            peer.check(10**5, 10**5)


def multiplies(peer: type[Peer], batch: int) -> None:
    one = built(peer, 70, 45)
    x, matrix = inputs.sparse(batch, 70, 0.5), one.matrix()
    assert matrix.shape == (45, 70)
    field = x @ matrix.T
    expected = np.abs(field) ** 2 if "intensity" in peer.modes else field
    tolerance = 2**-8 if "bfloat16" in peer.name else 2**-10 if "float16" in peer.name else 1e-5
    work = one.multiply(x)
    for _ in range(2):  # as the timing does: no result may add up, no matrix change
        result = as_numpy(work())
        assert result.shape == (batch, 45)
        assert np.iscomplexobj(result) == ("complex" in peer.modes)
        assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_the_entries_of_a_peer_are_independent(peer: type[Peer]) -> None:
    matrix = built(peer, 400, 300).matrix()
    matrix = matrix / np.sqrt(np.mean(np.abs(matrix) ** 2))
    assert abs(matrix.mean()) < 5 / np.sqrt(matrix.size)
    for rows in (matrix, matrix.T):
        gram = rows @ rows.conj().T / rows.shape[1]
        np.fill_diagonal(gram, 0)
        assert np.abs(gram).max() < 7 / np.sqrt(rows.shape[1])


def test_peers_store_what_they_say() -> None:
    torch = pytest.importorskip("torch")
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        try:
            peer.check(30, 20)
        except UnavailableError:
            continue
        kept = [
            each.nbytes for each in vars(peer.build(30, 20)).values() if isinstance(each, np.ndarray | torch.Tensor)
        ]
        if "scikit-learn" not in peer.name:
            assert sum(kept) == peer.stored_bytes(30, 20)


def test_a_peer_without_enough_memory_says_so() -> None:
    pytest.importorskip("torch")
    with pytest.raises(UnavailableError, match="takes some 12 TB"):
        PEERS[0].check(10**6, 10**6)


@pytest.mark.long
def test_the_kernel_for_gpus_is_right_in_the_interpreter() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    program = """
        import numpy as np
        from benches import inputs
        from benches.peers import cuda_generated
        from benches.peers.cuda_generated import CudaGenerated

        CudaGenerated.device = "cpu"
        cuda_generated.TILE = (64, 32, 32)
        matrix = CudaGenerated(70, 150).matrix()
        x = inputs.sparse(20, 70, 0.5)
        assert np.abs(CudaGenerated(70, 150).multiply(x)().numpy() - x @ matrix.T).max() < 1e-4
        assert abs(matrix.mean()) < 5 / matrix.size**0.5 and abs(matrix.var() - 1) < 0.05
        assert np.abs(np.corrcoef(matrix) - np.eye(150)).max() < 6 / 70**0.5
        assert abs(np.corrcoef(matrix.ravel(), CudaGenerated(70, 150, seed=1).matrix().ravel())[0, 1]) < 0.05
        cuda_generated.TILE = (64, 16, 16)
        assert np.array_equal(matrix[:99, :60], CudaGenerated(60, 99).matrix())
        print("right")
    """
    path = os.pathsep.join([str(ROOT), *sys.path])
    assert run(program, TRITON_INTERPRET="1", PYTHONPATH=path).strip() == "right"


def test_a_comparison_is_of_all_outputs() -> None:
    peer = next(peer for peer in PEERS if peer.name == "NumPy float32, generated")
    few = Setting("portable", threads=1, call_seconds=0.002, budget=0.0)
    (standing,) = comparison.against(peer, few, 2000, 1000, (1,))
    assert standing.part < 1
    assert set(standing.ratios) == {"linear", "real"}
    for mode, ratio in standing.ratios.items():
        assert ratio == pytest.approx(standing.peer_seconds / standing.opuproj_seconds[mode], rel=0.9)
    assert standing.cells()[1] == "nothing"
    assert len(standing.cells()) == len(comparison.HEAD)


def test_rounds_compare_times_of_one_round() -> None:
    rounds = Rounds({"a": [1.0, 10.0, 4.0], "b": [2.0, 20.0, 1.0]})
    assert rounds.ratio("a", "b") == 0.5
    assert rounds.median_of(lambda took: max(took.values())) == 4.0
    called = []
    assert set(alternate({"work": lambda: called.append(0)}, budget=0.0, shortest=0.0).seconds) == {"work"}
    assert len(called) == 1 + 3  # a first call that is not measured, and the least of rounds


def test_a_call_that_takes_too_long_computes_part_of_the_outputs() -> None:
    call = Call(Setting("portable", 1, call_seconds=1e-4), inputs.dense(1, 1000), 100_000, "complex")
    assert call.n_outputs < 100_000
    assert call.scale == 100_000 / call.n_outputs
    assert f"{call.n_outputs:,}" in call.note
    assert call.multiply_adds == 2 * 1000 * call.n_outputs
    assert Call(QUICK, inputs.dense(3, 1000), 8, "real", whole=True).multiply_adds == 3 * 1000 * 8


def test_a_requirement_is_a_minimum_or_a_maximum_and_may_depend_on_the_instruction_set() -> None:
    assert [at_least(0.75).verdict(ratio, "avx2") for ratio in (0.7, 0.75)] == ["not met", "met"]
    assert [at_most(2).verdict(ratio, "avx2") for ratio in (2, 2.1)] == ["met", "not met"]
    some = at_least(avx512=3.5, amx=1.2)
    assert [some.verdict(2, isa) for isa in ("avx512", "amx", "avx2")] == ["not met", "met", "no requirement"]
    assert [some.text(isa) for isa in ("amx", "avx2")] == ["≥ 1.2", "≥ 3.5 on avx512, ≥ 1.2 on amx"]
    assert at_most(2).text("portable") == "≤ 2"


def test_the_requirements_of_cases_name_instruction_sets() -> None:
    known = {isa for isa, _ in _core.instruction_sets()}
    for name, case in cases.CASES.items():
        assert case.requirement.every is not None or case.requirement.of_isa, name
        assert set(case.requirement.of_isa) <= known, name
    assert len({case.what for case in cases.CASES.values()}) == len(cases.CASES)


def test_a_peer_that_is_too_slow_computes_part_of_the_outputs() -> None:
    torch = pytest.importorskip("torch")
    peer = TorchFloat32.build(64, 512)
    x = inputs.dense(2, 64)
    whole, share = affordable(peer, x, 512, Setting("portable", 1, call_seconds=60.0))
    assert whole is peer
    assert share == 1
    part, share = affordable(peer, x, 512, Setting("portable", 1, call_seconds=0.0))
    assert share == 1 / 256
    assert torch.allclose(part.multiply(x)(), peer.multiply(x)()[:, :2], rtol=1e-4, atol=1e-4)


def test_a_case_of_many_threads_needs_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 15)
    with pytest.raises(UnavailableError, match="it needs 16 cores, and this process may use 15"):
        cases.run("batch 1024, 16 threads", QUICK)


def test_a_forced_instruction_set_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPUPROJ_ISA", raising=False)
    with machine.forced("portable"):
        assert machine.instruction_set() == "portable"
    assert "OPUPROJ_ISA" not in os.environ


@pytest.fixture
def run_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A saved run of four cases: one for each verdict, and one that this machine cannot run."""

    def missing(at: Setting) -> Result:
        raise UnavailableError("no such device")

    chosen = {
        "met": Case("a case that is met", lambda at: Result("3 s", "6 s other", 2.0), at_least(1)),
        "not met": Case("a case that is not met", lambda at: Result("3 s", "6 s other", 2.0), at_most(1)),
        "none": Case("a case of another CPU", lambda at: Result("3 s", "6 s other", 2.0), at_least(amx=3.5)),
        "elsewhere": Case("a case that cannot run", missing, at_least(1)),
    }
    monkeypatch.setattr(cases, "CASES", chosen)
    monkeypatch.setattr(report, "CASES", chosen)
    saved = tmp_path / "bench.json"
    table.main(["--isa", "portable", "--no-peers", "--threads", "1", "--budget", "0", "--json", str(saved)])
    return saved


def test_the_table_says_which_requirements_are_met(run_of_the_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = f"{machine.cpu_name()}, portable, {machine.cores()} core"
    printed = capsys.readouterr().out.partition("Requirements: ")[2]
    assert printed.startswith(here)
    assert printed.splitlines()[1:9] == [
        "Met (1)",
        "  met",
        "Not met (1)",
        "  not met: 2, must be ≤ 1",
        "No requirement on portable (1)",
        "  none: 2, must be ≥ 3.5 on amx",
        "Left out (1)",
        "  elsewhere: no such device",
    ]
    document = json.loads(run_of_the_table.read_text())
    assert document["machine"]["cpu"] == machine.cpu_name()
    assert document["requirements"] == {"met": ["met"], "not met": ["not met"], "no requirement": ["none"]}
    assert document["left out"] == {"elsewhere": "no such device"}
    assert document["cases"]["none"]["required"] is None
    assert document["cases"]["not met"] == {
        "what": "a case that is not met",
        "figure": "3 s",
        "against": "6 s other",
        "ratio": 2.0,
        "required": 1,
        "must be": "≤ 1",
        "verdict": "not met",
    }


def test_a_run_is_put_on_a_page(run_of_the_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    markdown.main([str(run_of_the_table)])
    printed = capsys.readouterr().out
    assert "| a case that is not met | 3 s | 6 s other | 2 | ≤ 1 | **no** |" in printed
    assert "It meets 1 of 2 requirements." in printed
    assert "- elsewhere: no such device" in printed
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench.json -->\nold\n<!-- end of bench.json -->\nafter\n")
    for _ in range(2):
        markdown.main([str(run_of_the_table), "--page", str(page)])
        text = page.read_text()
        assert text.startswith("before\n<!-- bench.json -->\n\n### ")
        assert text.endswith("-->\nafter\n")
        assert text.count("a case that is not met") == 1
        assert "old" not in text
    page.write_text("no place")
    with pytest.raises(SystemExit, match=r"no place for bench.json"):
        markdown.main([str(run_of_the_table), "--page", str(page)])


def test_the_page_shows_the_saved_runs() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    runs = sorted(saved.DATA.glob("bench-*.json"))
    assert runs
    for path in runs:
        assert markdown.put(page, path.name, markdown.section(saved.read(path))) == page, path.name


@pytest.mark.parametrize("arguments", [["--only", "no such case"], ["--isa", "no such set"]])
def test_the_table_refuses_what_it_does_not_know(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        table.main(arguments)
    assert "no such" in capsys.readouterr().err


def test_every_instruction_set_has_its_ratios() -> None:
    assert {f"{isa}, one vector" for isa in ISAS} <= set(check.kernels())
    assert len(set(check.kernels())) == len(check.kernels())
    assert 0 < check.measure(check.kernels()[0], budget=0.0) < 1.5


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (0.85, 0), (0.75, 1), (1.3, 0)])
def test_the_check_fails_where_a_kernel_is_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], factor: float, code: int
) -> None:
    file = tmp_path / "expected.json"
    monkeypatch.setattr(check, "measure", lambda kernel, budget: 0.6)
    assert check.main(["--file", str(file)]) == 2
    assert "--record" in capsys.readouterr().out
    assert check.main(["--file", str(file), "--record"]) == 0
    assert json.loads(file.read_text())["tolerance"] == 0.20
    slower = check.kernels()[0]
    monkeypatch.setattr(check, "measure", lambda kernel, budget: 0.6 * factor if kernel == slower else 0.6)
    assert check.main(["--file", str(file)]) == code
    assert ("slower" in capsys.readouterr().out) == (code == 1)


def test_a_hiccup_is_no_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "expected.json"
    monkeypatch.setattr(check, "measure", lambda kernel, budget: 0.6)
    check.main(["--file", str(file), "--record"])
    figures = iter([0.1] * len(check.kernels()) + [0.6] * len(check.kernels()))
    monkeypatch.setattr(check, "measure", lambda kernel, budget: next(figures))
    assert check.main(["--file", str(file)]) == 0


def test_expectations_of_other_processors_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "expected.json"
    monkeypatch.setattr(machine, "kind", lambda: "one")
    check.record(file, {"portable, one vector": 0.61249})
    monkeypatch.setattr(machine, "kind", lambda: "other")
    check.record(file, {"portable, one vector": 0.5})
    machines = check.load(file)["machines"]
    assert machines["one"]["ratios"] == {"portable, one vector": 0.612}
    assert set(machines) == {"one", "other"}


def test_figures_come_back_with_their_machine(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "figures.json"
    figures = {"seconds": [0.1, 1 / 3], "name": "10⁶"}
    saved.write(file, figures)
    assert saved.read(file) == {"machine": machine.describe(), **figures}
    assert [each.name for each in file.parent.iterdir()] == ["figures.json"]


def test_an_exponent_is_that_of_the_power() -> None:
    assert growth.exponent({n: 3e-9 * n**1.5 for n in growth.SIZES}) == pytest.approx(1.5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_seen_without_that_of_files(tmp_path: Path) -> None:
    peak = large.PeakMemory(every=0.001)
    with peak.watched():
        mapped = np.memmap(tmp_path / "file", dtype=np.uint8, mode="w+", shape=64 << 20)
        mapped[:] = 1
        # Not from malloc, which may have room left that earlier tests had touched.
        with mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
            for _ in range(32):
                held.write(bytes(1 << 20))
            time.sleep(0.1)
    assert 32 <= peak.bytes / 2**20 < 48


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_projections_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "large.json"
    sizes = "--inputs 5000 --outputs 300000 --threads 1 --call-seconds 0.01 --no-progress --growth-seconds 0"
    common = [*sizes.split(), *["--growth-sizes", "1000", "3000", "--batches", "2"], "--out", str(out)]
    large.main([*common, "--densities", "1"])
    (one,) = (large.Measured(**measured) for measured in saved.read(out)["cases"].values())
    assert 0 < one.part < 1
    assert 0 < one.peak_bytes <= large.MOST_BYTES
    assert one.output_bytes == 4 * 2 * 300_000
    before = saved.read(out)
    asked = []

    def measure(case: large.Case, *_: object) -> large.Measured:
        asked.append(case.density)
        return one

    monkeypatch.setattr(large, "measure_in_a_process", measure)
    large.main([*common, "--densities", "1", "0.5"])
    assert asked == [0.5]
    after = saved.read(out)
    assert after["growth"] == before["growth"]
    assert before["cases"].items() <= after["cases"].items()
    assert "of the outputs" in capfd.readouterr().out
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    with pytest.raises(SystemExit, match="was measured elsewhere"):
        large.main([*common, "--densities", "1"])


def test_large_projections_need_room_for_their_file(tmp_path: Path) -> None:
    sizes = ["--outputs", "1" + 15 * "0", "--out", str(tmp_path / "large.json"), "--no-progress"]
    with pytest.raises(SystemExit, match="but the outputs take"):
        large.main([*sizes, "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="must be a folder that exists"):
        large.main([*sizes, "--folder", str(tmp_path / "none")])


@pytest.mark.parametrize("argument", ["--densities 0", "--densities 1.5", "--inputs 0", "--batches -1"])
def test_large_projections_refuse_bad_sizes(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        large.main(argument.split())
    assert argument.split()[0] in capsys.readouterr().err


def points_of(name: str) -> list[dict[str, Any]]:
    """Figures as a picture gets them, made up."""
    if name == size.NAME:
        both = [{"n": n, "batch": b, "opuproj": n * 1e-6} for n in (10**3, 10**6) for b in size.BATCHES]
        return [point | ({"torch": 1e-3, "torch_build": 0.1} if point["n"] == 10**3 else {}) for point in both]
    if name == roofline.NAME:
        limits = {"keystream": 1e10, "multiply": 1e11}
        return [{"isa": "avx2", "batch": b, "multiply_adds": min(b, 10) * 8e9, **limits} for b in (1, 16, 1024)]
    if name == density.NAME:
        return [{"shape": s, "density": d, "seconds": d, "of_dense": d} for s in density.SHAPES for d in (1e-5, 1.0)]
    return [
        {"batch": b, "threads": n, "speedup": 0.9 * n, "limit_speedup": n} for b in threads.BOUNDS for n in (1, 2, 4)
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_drawn_from_saved_figures(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    folders = ["--data", str(tmp_path), "--images", str(tmp_path / "images"), "--only", name, "--draw-only"]
    figures(folders)
    assert "nothing was measured yet" in capsys.readouterr().out
    saved.write(tmp_path / f"{name}.json", {"points": points_of(name)})
    figures(folders)
    image = tmp_path / "images" / f"{name}.png"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_saved_figures_of_the_repository_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures(["--draw-only", "--images", str(tmp_path)])
    drawn = {path.stem for path in tmp_path.iterdir()}
    assert drawn == {name for name in FIGURES if (saved.DATA / f"{name}.json").exists()}


def test_threads_are_measured_for_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 1)
    points = threads.measure(LITTLE)["points"]
    assert [(point["batch"], point["threads"], point["speedup"]) for point in points] == [(1, 1, 1.0), (256, 1, 1.0)]
    assert threads.counts(6) == [1, 2, 4, 6]
    assert LITTLE.of((1, 2, 3, 4, 5, 6)) == (1, 4, 6)


def test_the_history_skips_what_is_too_large_or_missing() -> None:
    from benches.benchmarks import project, ratios

    for suite, most in ((project.Size(), 100_000), (project.Inputs(), 1_000_000), (project.Outputs(), 1_000_000)):
        suite.setup(1_000, 1)
        suite.time_project(1_000, 1)
        with pytest.raises(NotImplementedError):
            suite.setup(most, 1024)
    with pytest.raises(NotImplementedError):
        project.Threads().setup(machine.cores() + 1, 1)
    isa = project.InstructionSet()
    for name in project.InstructionSet.params[0]:
        if name in ISAS:
            isa.setup(name, 1)
            isa.time_project(name, 1)
            ratios.Kernel().setup(name, "one vector")
        else:
            with pytest.raises(NotImplementedError):
                isa.setup(name, 1)
            with pytest.raises(NotImplementedError):
                ratios.Kernel().setup(name, "one vector")
