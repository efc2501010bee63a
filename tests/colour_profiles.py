"""ICC profiles written number by number, and what their colours look like in sRGB, by arithmetic.

Nothing here asks a colour management system: tests compare ours with it.
"""

import struct
from collections.abc import Sequence

import numpy as np

Colour = tuple[int, int, int]
# Primaries adapted to D50, as columns X, Y, Z of red, green and blue, and the tone curve.
SPACES: dict[str, tuple[Sequence[Sequence[float]], float | None]] = {
    "Display P3": (
        ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
        None,
    ),
    "Adobe RGB": (
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
        2.19921875,
    ),
    "ProPhoto": (
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03135, 0.00009, 0.82491)),
        1.80078125,
    ),
    "Rec2020": (
        ((0.67348, 0.27904, -0.00193), (0.16567, 0.67535, 0.02998), (0.12505, 0.04561, 0.79686)),
        None,
    ),
}
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def shown_as(stored: Colour, space: str) -> Colour:
    """Return the sRGB colour that a colour of a space looks like, cut to what sRGB has."""
    columns, gamma = SPACES[space]
    linear = _decoded(np.array(stored) / 255, gamma)
    wanted = np.linalg.inv(np.array(SRGB).T) @ (np.array(columns).T @ linear)
    red, green, blue = (round(float(value) * 255) for value in _encoded(np.clip(wanted, 0, 1)))
    return red, green, blue


def grey_shown_as(level: int, gamma: float) -> int:
    """Return the sRGB level of a grey level with a gamma."""
    return round(float(_encoded(np.array((level / 255) ** gamma))) * 255)


def rgb_profile(space: str) -> bytes:
    """Return a matrix profile of a space, ICC version 2."""
    columns, gamma = SPACES[space]
    return _matrix_profile(space, columns, gamma)


def srgb_profile() -> bytes:
    """Return a matrix profile of sRGB, rounded as other programs round it."""
    return _matrix_profile("sRGB", SRGB, None)


def grey_profile(gamma: float) -> bytes:
    """Return a profile of grey levels with a gamma."""
    tags = [(b"desc", _text("grey")), (b"wtpt", _xyz((0.9642, 1.0, 0.8249)))]
    return _file(b"GRAY", b"mntr", [*tags, (b"kTRC", _curve(gamma))])


def cmyk_profile(inks: dict[tuple[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """Return a press's profile: Lab of the 16 corners of the ink cube, mixed linearly."""
    nodes = bytearray()
    for number in range(16):
        corner = (number >> 3 & 1, number >> 2 & 1, number >> 1 & 1, number & 1)
        light, a, b = inks[corner]
        nodes += bytes((round(light * 2.55), a + 128, b + 128))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    table += b"".join(_fixed(number) for number in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table += ramp * 4 + bytes(nodes) + ramp * 3
    tags = [(b"desc", _text("press")), (b"wtpt", _xyz((0.9642, 1.0, 0.8249)))]
    tables = [(name, table) for name in (b"A2B0", b"A2B1", b"A2B2")]
    return _file(b"CMYK", b"prtr", [*tags, *tables], connection=b"Lab ")


def _matrix_profile(name: str, columns: Sequence[Sequence[float]], gamma: float | None) -> bytes:
    tags = [(b"desc", _text(name)), (b"wtpt", _xyz((0.9642, 1.0, 0.8249)))]
    corners = zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    tags += [(tag, _xyz(column)) for tag, column in corners]
    tags += [(tag, _curve(gamma)) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    return _file(b"RGB ", b"mntr", tags)


def _decoded(values: np.ndarray, gamma: float | None) -> np.ndarray:
    if gamma is not None:
        return values**gamma
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    levels = np.round(_decoded(np.linspace(0, 1, 1024), None) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + levels.tobytes()


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _text(words: str) -> bytes:
    raw = words.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(raw)) + raw + bytes(78)


def _file(
    space: bytes,
    kind: bytes,
    tags: Sequence[tuple[bytes, bytes]],
    *,
    connection: bytes = b"XYZ ",
) -> bytes:
    start = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">IIII", start + len(body), 0, 0x02400000, int.from_bytes(kind, "big"))
    head = (head[:12] + kind + space + connection).ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + _fixed(0.9642) + _fixed(1.0) + _fixed(0.8249)
    return head.ljust(128, b"\0") + table + body
