"""Symbols and derivations of T6: sampling theory. ν = n − 1 with an estimated mean."""

from __future__ import annotations

from typing import Any

import sympy

from theory.formulas._derivation import Derivation
from theory.formulas.closed_form import Proof

n, p, q, j = sympy.symbols("n p q j", integer=True, positive=True)
x, J, sigma0 = sympy.symbols("x J sigma_0", positive=True)
rho = sympy.Symbol("rho", real=True)
E = sympy.Symbol("E", nonnegative=True)
square, trace = sympy.symbols("s_2 s_1", positive=True)
psi = sympy.digamma

ANDERSON = "Anderson, Multivariate Statistical Analysis, sections 4.4 and 7.5; derived here"
DELTA = "delta method on the sample covariance, moments by Isserlis; derived here"
CHEN = "Chen, Wiesel, Eldar and Hero (2010), arXiv:0907.4698, equation 23"
BIAS = sympy.Sum(psi((n - 1 - j + 1) / 2) - psi((n - 1 - p - j + 1) / 2), (j, 1, q)) / 2
LARGE = 20_000
"""Sample size of the delta-method oracles, whose relative error is then of order 1/n = 5e-5."""


def log_determinant(size: int, degrees: Any) -> Any:
    """E log|W| up to size · log 2: by Bartlett a product of χ² with ν, ν − 1, … degrees."""
    return sum((psi((degrees - i) / 2) for i in range(size)), sympy.Integer(0))


def chi_square_log(steps: Derivation) -> None:
    """E log χ²_m = ψ(m/2) + log 2, by differentiating E (χ²_m)^s."""
    m, s, y = sympy.symbols("m s y", positive=True)
    density = y ** (m / 2 - 1) * sympy.exp(-y / 2) / (2 ** (m / 2) * sympy.gamma(m / 2))
    moment = sympy.integrate(y**s * density, (y, 0, sympy.oo))
    mellin = 2**s * sympy.gamma(m / 2 + s) / sympy.gamma(m / 2)
    steps.general("E(χ²_m)^s = 2^s Γ(m/2 + s)/Γ(m/2)", sympy.gammasimp(moment / mellin) - 1)
    slope = sympy.log(mellin).diff(s).subs(s, 0)
    steps.general("its derivative at 0", sympy.simplify(slope) - psi(m / 2) - sympy.log(2))


def derive_bias(expr: Any) -> Proof:
    steps = Derivation()
    chi_square_log(steps)
    for sizes in ((1, 1), (2, 1), (3, 2)):
        first, second = sizes
        parts = [log_determinant(size, n - 1) for size in (first, second, first + second)]
        direct = (parts[0] + parts[1] - parts[2]) / 2
        form = expr.subs({p: first, q: second}).doit()
        steps.case(f"½E(log|S_x| + log|S_y| − log|S_xy|), p, q = {sizes}", form - direct)
    return steps.proof()


def derive_correlation_bias(expr: Any) -> Proof:
    steps = Derivation()
    chi_square_log(steps)
    steps.general("p = q = 1 in the general bias", expr - BIAS.subs({p: 1, q: 1}).doit())
    return steps.proof()


def beta_density(y: Any, a: Any, b: Any) -> Any:
    return y ** (a - 1) * (1 - y) ** (b - 1) / sympy.beta(a, b)


def derive_tail(expr: Any) -> Proof:
    """1 − R² = χ²_ν−p/(χ²_ν−p + χ²_p) is Beta; the tail's slope is minus the density of Î."""
    a, b = (n - 1 - p) / 2, p / 2
    u, v, y, r = sympy.symbols("u v y r", positive=True)
    half_a, half_b = sympy.symbols("alpha beta", positive=True)
    joint = (
        u ** (half_a - 1)
        * v ** (half_b - 1)
        * sympy.exp(-(u + v) / 2)
        / (2 ** (half_a + half_b) * sympy.gamma(half_a) * sympy.gamma(half_b))
    )
    # u = r y, v = r (1 − y): the Jacobian is r.
    polar = joint.subs({u: r * y, v: r * (1 - y)}, simultaneous=True) * r
    polar = sympy.powsimp(sympy.expand_power_base(sympy.simplify(polar), force=True))
    marginal = sympy.integrate(polar, (r, 0, sympy.oo), conds="none")
    ratio = marginal / beta_density(y, half_a, half_b).rewrite(sympy.gamma)
    steps = Derivation()
    steps.general("χ²_2α/(χ²_2α + χ²_2β) ~ Beta(α, β)", sympy.gammasimp(sympy.simplify(ratio)) - 1)
    arrival = beta_density(y, a, b).subs(y, sympy.exp(-2 * x)) * 2 * sympy.exp(-2 * x)
    slope = sympy.simplify((expr.diff(x) + arrival) / arrival)
    steps.general("−d/dx of the tail is the density of Î = −½ log y", slope)
    steps.general("certain to be at least 0", expr.args[3].subs(x, 0) - 1)
    return steps.proof()


def derive_null_variance(expr: Any) -> Proof:
    """Var(−½ log y), y ~ Beta: ¼ of the second derivative of log E y^s."""
    a, b, s = sympy.symbols("alpha beta s", positive=True)
    y = sympy.Symbol("y", positive=True)
    moment = sympy.gamma(a + s) * sympy.gamma(a + b) / (sympy.gamma(a) * sympy.gamma(a + b + s))
    shifted = beta_density(y, a, b) * y**s / beta_density(y, a + s, b)
    steps = Derivation()
    steps.general(
        "E y^s = B(α + s, β)/B(α, β)", sympy.gammasimp(shifted.rewrite(sympy.gamma) / moment) - 1
    )
    variance = sympy.log(moment).diff(s, 2).subs(s, 0) / 4
    at = {a: (n - 1 - p) / 2, b: p / 2}
    steps.general("¼ (log E y^s)'' at 0", sympy.simplify(variance.subs(at)) - expr)
    return steps.proof()


def delta_variance(statistic: Any, entries: tuple[Any, ...], cov: Any) -> Any:
    """n × the delta-method variance of a function of the entries s_ab of a 2 × 2 covariance."""
    index = ((0, 0), (1, 1), (0, 1))
    true = {s: cov[i] for s, i in zip(entries, index, strict=True)}
    slopes = [statistic.diff(s).subs(true) for s in entries]
    total = sympy.Integer(0)
    for g, (a, b) in zip(slopes, index, strict=True):
        for h, (c, d) in zip(slopes, index, strict=True):
            total += g * h * (cov[a, c] * cov[b, d] + cov[a, d] * cov[b, c])
    return sympy.simplify(total)


ENTRIES = sympy.symbols("s_yy s_tt s_yt", positive=True)
PAIR = sympy.Matrix([[1, rho], [rho, 1]])
R2 = ENTRIES[2] ** 2 / (ENTRIES[0] * ENTRIES[1])


def derive_delta_information(expr: Any) -> Proof:
    variance = delta_variance(-sympy.log(1 - R2) / 2, ENTRIES, PAIR)
    return Derivation().general("gradient in (s_yy, s_tt, s_yt)", variance / n - expr).proof()


def derive_delta_capture(expr: Any) -> Proof:
    cov = sympy.Matrix([[J, 0], [0, 1]])
    variance = delta_variance(sympy.log(1 + ENTRIES[0] / sigma0**2) / 2, ENTRIES, cov)
    return Derivation().general("gradient in s_yy", variance / n - expr).proof()


def derive_delta_predictability(expr: Any) -> Proof:
    variance = delta_variance(R2, ENTRIES, PAIR)
    steps = Derivation().case("one peer", variance / n - expr.subs(E, rho**2))
    r2 = sympy.Symbol("R2", positive=True)
    # Of several peers only their best combination enters to first order: its R² is E.
    root = sympy.sqrt(r2)
    steps.case("in terms of E", variance.subs(rho, root) / n - expr.subs(E, r2))
    return steps.proof()


def derive_adjusted(expr: Any) -> Proof:
    a, b = (n - 1 - p) / 2, p / 2
    mean = a / (a + b)  # of Beta(a, b)
    y = sympy.Symbol("y", positive=True)
    steps = Derivation()
    s, t = sympy.symbols("alpha beta", positive=True)
    ratio = sympy.gammasimp((sympy.beta(s + 1, t) / sympy.beta(s, t)).rewrite(sympy.gamma))
    steps.general("mean of Beta(α, β)", ratio - s / (s + t))
    steps.general("E of the correction at independence is 0", expr.subs(E, 1 - y).subs(y, mean))
    steps.general("R² = 1 stays 1", expr.subs(E, 1) - 1)
    return steps.proof()


INTENSITY = ((1 - 2 / p) * square + trace**2) / ((n + 1 - 2 / p) * (square - trace**2 / p))


def derive_oas(expr: Any) -> Proof:
    """Fixed point of the iteration λ ← f(tr(Σ_λ S), tr Σ_λ), Σ_λ = (1 − λ)S + λ (tr S / p) I."""
    lam = expr.args[1] if expr.args[0] == 1 else expr.args[0]
    cross = (1 - lam) * square + lam * trace**2 / p
    following = ((1 - 2 / p) * cross + trace**2) / (
        (n + 1 - 2 / p) * cross + (1 - n / p) * trace**2
    )
    return Derivation().general("one more iteration changes nothing", following - lam).proof()
