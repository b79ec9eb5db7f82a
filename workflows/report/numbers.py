"""Numbers as a reader of the report sees them."""

from __future__ import annotations

from math import isnan

__all__ = ["MISSING", "fixed", "mpp_text", "size_text"]

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
