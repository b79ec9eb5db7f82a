"""Numbers as a reader of the report sees them."""

from __future__ import annotations

from math import isnan

__all__ = ["MISSING", "fixed", "length_text", "measured", "mpp_text", "size_text"]

MISSING = "\N{EN DASH}"
"""Stands where a figure is not defined."""


def fixed(value: float, decimals: int) -> str:
    """A number >= 0 with a fixed number of decimals and commas between thousands.

    What would round to nothing is shown as less than the smallest step; NaN as a dash.

    Examples:
        >>> [fixed(value, 1) for value in (1234.56, 0.0, 0.04)]
        ['1,234.6', '0.0', '< 0.1']
    """
    if isnan(value):
        return MISSING
    step = 10.0**-decimals
    return f"< {step:.{decimals}f}" if 0 < value < step / 2 else f"{value:,.{decimals}f}"


def measured(value: float) -> str:
    """A number to three digits, whole from 100 on, with commas between thousands.

    Examples:
        >>> [measured(value) for value in (1234.56, 32.18, 0.04567, 0.0)]
        ['1,235', '32.2', '0.0457', '0']
    """
    if isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def length_text(length_um: float) -> str:
    """A length in mm, or in um where it is shorter than 1 mm.

    Examples:
        >>> length_text(500.0), length_text(2000.0)
        ('500 µm', '2 mm')
    """
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} \N{MICRO SIGN}m"


def mpp_text(mpp: float) -> str:
    """Micrometres per pixel.

    Examples:
        >>> mpp_text(0.49999)
        '0.5 µm/px'
    """
    return f"{mpp:.4g} \N{MICRO SIGN}m/px"


def size_text(width_um: float, height_um: float) -> str:
    """The two sides of an area in mm, or in um where one is shorter than 1 mm."""
    times = "\N{MULTIPLICATION SIGN}"
    if min(width_um, height_um) >= 1000:
        return f"{width_um / 1000:,.2f} {times} {height_um / 1000:,.2f} mm"
    return f"{width_um:,.0f} {times} {height_um:,.0f} \N{MICRO SIGN}m"
