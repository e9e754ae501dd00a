"""Tasks, networks and spectra: what they promise, and what they refuse."""

import numpy as np
import pytest

from sim import Mixture, Network, Regression, isotropic, power_law, spiked, variance_shares
from sim._ensemble import build_members
from sim._sources import draw_sample
from sim.networks import network_from_config
from sim.tasks import task_from_config
from tests.tolerances import EXACT, STANDARD_ERRORS
from theory import output_coupling


@pytest.mark.parametrize("spectrum", [power_law(7, 1.5), spiked(7, 2, 9.0), isotropic(7)])
def test_spectra_have_mean_one(spectrum):
    assert np.isclose(spectrum.mean(), 1, rtol=EXACT)
    assert (np.diff(spectrum) <= 0).all()


@pytest.mark.parametrize("alignment", [-2.0, 0.0, 1.0, 3.0])
def test_every_output_has_unit_variance_spread_as_asked(alignment):
    spectrum = power_law(9, 2.0)
    population = Regression(spectrum, outputs=4, alignment=alignment).population
    shares = population.teacher**2 * spectrum
    np.testing.assert_allclose(shares, np.tile(variance_shares(spectrum, alignment), (4, 1)))
    np.testing.assert_allclose(np.diagonal(population.target_cov), 1, rtol=EXACT)


def test_a_covariance_and_its_eigenvalues_are_the_same_task():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    values = np.array([3.0, 2.0, 0.5, 0.1])
    sigma = (basis * values) @ basis.T
    sigma = (sigma + sigma.T) / 2
    teacher = rng.standard_normal((2, 4))
    task = Regression(sigma, teacher=teacher)
    population = task.population
    np.testing.assert_allclose(population.spectrum, values)
    np.testing.assert_allclose(population.basis @ population.cross, sigma @ teacher.T)
    np.testing.assert_allclose(population.target_cov, teacher @ sigma @ teacher.T)


def test_mixture_moments_are_those_of_its_samples():
    task = Mixture(power_law(3, 1.0), classes=3, separation=1.5)
    population = task.population
    (member,) = build_members(
        population, Network(width=2), [0], batch=1, samples=0, dtype=np.float64
    )
    n = 20_000
    drawn = np.empty((n, 6))
    for position in range(n):
        label = draw_sample(member.source, position, member.scratch)
        drawn[position, :3] = member.scratch.sample[:3]
        drawn[position, 3:] = np.eye(3)[label] - 1 / 3
    expected = np.block(
        [[population.sigma, population.cross], [population.cross.T, population.target_cov]]
    )
    products = drawn[:, :, None] * drawn[:, None, :]
    error = products.std(axis=0) / np.sqrt(n)
    assert (np.abs(products.mean(axis=0) - expected) < STANDARD_ERRORS * error + EXACT).all()
    slopes = np.linalg.solve(population.sigma, population.cross).T
    np.testing.assert_allclose(population.teacher, slopes)


@pytest.mark.parametrize("kind", ["random", "regression", "mixture"])
def test_configurations_build_the_same_again(kind):
    tasks = {
        "random": Regression(np.diag([2.0, 1.0]) + 0.1, outputs=3, alignment=0.3, noise=0.1),
        "regression": Regression(power_law(3, 1.0), teacher=np.ones((1, 3))),
        "mixture": Mixture(power_law(3, 1.0), classes=2, separation=1.0, seed=4),
    }
    again = task_from_config(tasks[kind].config())
    assert again.config() == tasks[kind].config()
    assert np.array_equal(again.population.teacher, tasks[kind].population.teacher)
    network = Network(width=5, balance="exact", scale=0.1)
    assert network_from_config(network.config()) == network


def test_initial_variances_are_scale_and_balance():
    population = Regression(power_law(40, 1.0), outputs=30).population
    weights = Network(width=50, scale=0.5, balance=4.0).draw(population, 0)
    # 2,000 and 1,500 entries: a variance is within 5 % with three standard errors to spare.
    assert np.isclose(weights.filters.var() * 40, 0.25 * 4, rtol=0.15)
    assert np.isclose(weights.readout.var() * 50, 0.25 / 4, rtol=0.15)


def test_layers_above_a_rectified_one_keep_its_power():
    network = Network(width=100, depth=3, nonlinearity="relu")
    population = Mixture(np.ones(4), classes=3).population
    hidden = np.maximum(np.random.default_rng(0).standard_normal((50, 100)), 0)
    ratios = []
    for seed in range(16):
        (layer,) = network.draw(population, seed).inner
        ratios.append(np.mean(np.maximum(hidden @ layer.T, 0) ** 2) / np.mean(hidden**2))
    error = np.std(ratios) / np.sqrt(16)
    assert abs(np.mean(ratios) - 1) < STANDARD_ERRORS * error < 0.5


def test_exact_balance():
    population = Regression(power_law(6, 1.0), outputs=3).population
    weights = Network(width=10, balance="exact").draw(population, 1)
    outer = weights.readout.T @ weights.readout
    np.testing.assert_allclose(weights.filters @ weights.filters.T, outer, atol=EXACT)


@pytest.mark.parametrize("coupling", [0.5, 0.8, 0.93])
def test_the_initial_output_has_the_coupling_asked_for(coupling):
    population = Regression(power_law(12, 2.0), outputs=2).population
    weights = Network(width=20, coupling=coupling).draw(population, 0)
    output = (weights.readout @ weights.filters).T
    for k in range(2):
        assert np.isclose(output_coupling(population.spectrum, output[:, k]), coupling)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mixture(np.ones(3), loss="hinge"), "loss must be one of 'squared'"),
        (lambda: Network(coupling=0.5, depth=3), "coupling needs depth=2"),
    ],
)
def test_settings_that_do_not_go_together_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_coupling_out_of_reach_names_the_range():
    population = Regression(power_law(6, 1.0)).population
    with pytest.raises(ValueError, match=r"coupling must lie between 0\.\d+ and 0\.\d+"):
        Network(coupling=0.99).draw(population, 0)
    with pytest.raises(ValueError, match="defined for Regression"):
        Network(coupling=0.5).draw(Mixture(np.ones(4)).population, 0)
    with pytest.raises(ValueError, match="at least as many channels as outputs"):
        Network(width=2, coupling=0.6).draw(Regression(power_law(6, 1.0), outputs=3).population, 0)
    with pytest.raises(ValueError, match="at least as many inputs as outputs"):
        Network(balance="exact").draw(Regression(np.ones(2), outputs=3).population, 0)
