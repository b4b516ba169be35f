"""ICC profiles written by hand (ICC.1:2001-04), and the formulas that they stand for."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Primaries = Sequence[tuple[float, float]]
"""Chromaticities x, y of red, green and blue."""
SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SWAPPED: Primaries = (SRGB[1], SRGB[2], SRGB[0])
DISPLAY_P3: Primaries = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO: Primaries = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_WHITE = np.array([0.9642, 1.0, 0.8249])


def _xyz(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def to_d50(primaries: Primaries, white: tuple[float, float] = _D65) -> npt.NDArray[np.float64]:
    """The matrix from linear RGB to XYZ under D50."""
    columns = np.stack([_xyz(*primary) for primary in primaries], axis=1)
    matrix = columns * np.linalg.solve(columns, _xyz(*white))
    gains = (_BRADFORD @ _xyz(*_D50)) / (_BRADFORD @ _xyz(*white))
    return np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ matrix


def encode_srgb(xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """XYZ under D50, (..., 3), to sRGB, 0 to 255 (IEC 61966-2-1)."""
    linear = np.clip(xyz @ np.linalg.inv(to_d50(SRGB)).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def from_lab(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIELAB under D50, (..., 3), to XYZ."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    return np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz_tag(_WHITE), **tags}
    data_start, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", data_start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = data_start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += b"".join(_fixed(value) for value in _WHITE)
    return head + bytes(128 - len(head)) + table + body


def _xyz_tag(values: Sequence[float] | npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(float(value)) for value in values)


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))


def rgb_profile(primaries: Primaries, gamma: float, white: tuple[float, float] = _D65) -> bytes:
    """A profile of three primaries and one gamma."""
    matrix = to_d50(primaries, white)
    columns = {name: _xyz_tag(matrix[:, column]) for column, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = {name: _gamma(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", b"XYZ ", b"mntr", columns | curves)


def grey_profile(gamma: float) -> bytes:
    """A profile of greys."""
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": _gamma(gamma)})


def cmyk_profile(inks: Sequence[tuple[float, float, float]]) -> bytes:
    """A profile with a table: the colours of the paper and of each single ink.

    Args:
        inks: CIELAB of paper, cyan, magenta, yellow and black; all mixtures are black.
    """
    paper, *pure = inks
    corners = {0: paper, 8: pure[0], 4: pure[1], 2: pure[2], 1: pure[3]}
    table = b""
    for corner in range(16):
        lightness, a, b = corners.get(corner, (0.0, 0.0, 0.0))
        table += bytes([round(lightness * 2.55), round(a) + 128, round(b) + 128])
    straight = bytes(range(256))
    matrix = b"".join(_fixed(float(value)) for value in np.eye(3).flatten())
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + straight * 4 + table + straight * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut, b"A2B1": lut})
