"""Brings pixels to sRGB from the colour space that their file says they are in.

A file says so by an ICC profile, by codes (cICP of PNG, nclx of HEIC and AVIF), by primaries and
gamma (PNG), or by the word for Adobe RGB in its EXIF data. Nothing but Pillow is imported here.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from PIL import Image, ImageChops, ImageCms

Chromaticity = tuple[float, float]

_ROWS_AT_ONCE: Final = 256
_STEPS: Final = range(0, 256, 15)
_MAX_NAME_CHARACTERS: Final = 60
_D65: Final = (0.3127, 0.3290)
_D50: Final = (0.9642, 1.0, 0.8249)
_BRADFORD: Final = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_BROKEN: Final = (ImageCms.PyCMSError, OSError, ValueError, TypeError, ArithmeticError)
_MODES: Final = {"RGB": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",)}


@dataclass(frozen=True, kw_only=True)
class Space:
    """An RGB colour space.

    Attributes:
        name: what people call it.
        red, green, blue, white: chromaticities (x, y) of the primaries and of white.
        gamma: exponent of its tone curve; None: that of sRGB.
    """

    name: str
    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity = _D65
    gamma: float | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether it is sRGB, but for the rounding of what files write."""
        pairs = zip(self._corners, SRGB._corners, strict=True)
        near = all(abs(x - y) < 0.002 for a, b in pairs for x, y in zip(a, b, strict=True))
        return near and (self.gamma is None or abs(self.gamma - 2.2) < 0.01)

    @property
    def _corners(self) -> tuple[Chromaticity, ...]:
        return (self.red, self.green, self.blue, self.white)

    def profile(self) -> bytes:
        """Return the space as an ICC profile (version 4: a matrix and one curve).

        Raises:
            ArithmeticError: the primaries span no space.
        """
        columns = [_xyz(corner) for corner in (self.red, self.green, self.blue)]
        matrix = tuple(zip(*columns, strict=True))
        white = _xyz(self.white)
        scales = _times(_inverse(matrix), white)
        cones = zip(_times(_BRADFORD, _D50), _times(_BRADFORD, white), strict=True)
        ratios = [to / of for to, of in cones]
        tags = [(b"wtpt", _xyz_tag(_D50))]
        for name, column, scale in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, scales, strict=True):
            cone = _times(_BRADFORD, [scale * value for value in column])
            adapted = _times(
                _inverse(_BRADFORD), [c * ratio for c, ratio in zip(cone, ratios, strict=True)]
            )
            tags.append((name, _xyz_tag(adapted)))
        curve = _curve(self.gamma)
        tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
        return _assembled(tags)


SRGB: Final = Space(name="sRGB", red=(0.64, 0.33), green=(0.30, 0.60), blue=(0.15, 0.06))
ADOBE_RGB: Final = Space(
    name="Adobe RGB", red=(0.64, 0.33), green=(0.21, 0.71), blue=(0.15, 0.06), gamma=2.19921875
)
_PRIMARIES: Final[dict[int, tuple[str, Sequence[float]]]] = {
    1: ("BT.709", (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)),
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316)),
    5: ("BT.601 (625 lines)", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601 (525 lines)", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: ("SMPTE 240M", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    8: ("film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, 0.310, 0.316)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
"""Primaries by their code of ITU-T H.273, white last where it is not D65."""
_GAMMAS: Final = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
"""Exponents by the code of the transfer; the curves of video are taken for that of sRGB."""
_HDR: Final = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a file says about its colours.

    Attributes:
        profile: an ICC profile; None: nothing, so sRGB is assumed.
        name: what people call the space; empty: as the profile says.
        broken: what is wrong with what it says, to read on from the file's name.
    """

    profile: bytes | None = None
    name: str = ""
    broken: str = ""


def claim_of(space: Space) -> Claim:
    """Return the claim of a file that names an RGB space."""
    if space.is_srgb:
        return Claim()
    try:
        return Claim(profile=space.profile(), name=space.name)
    except (ArithmeticError, struct.error):
        return Claim(broken="names impossible primaries")


def claim_of_codes(primaries: int, transfer: int) -> Claim:
    """Return the claim of a file that names primaries and transfer by the codes of H.273."""
    known = _PRIMARIES.get(primaries)
    if transfer in _HDR:
        name = _HDR[transfer]
        return Claim(broken=f"is an HDR picture ({name}), which is not tone-mapped")
    if known is None:
        return Claim()
    name, numbers = known
    points = [(numbers[at], numbers[at + 1]) for at in range(0, len(numbers), 2)]
    white = points[3] if len(points) > 3 else _D65
    red, green, blue = points[:3]
    gamma = _GAMMAS.get(transfer)
    space = Space(name=name, red=red, green=green, blue=blue, white=white, gamma=gamma)
    return claim_of(space)


class Conversion:
    """How the pixels of one picture become sRGB.

    Args:
        claim: what the file says about its colours.
        mode: mode of the pixels, without transparency: L, RGB, CMYK; any other: none is made.
    """

    def __init__(self, claim: Claim, *, mode: str) -> None:
        self.warning = claim.broken
        self.remark = ""
        self._claim = claim
        self._mode = mode
        self._transform: ImageCms.ImageCmsTransform | None = None
        if mode == "LAB":  # its numbers are colours by themselves, whatever its profile says
            self.remark = "is Lab; its colours are converted to sRGB"
            self.warning = ""
        elif claim.profile is not None and not claim.broken:
            self._prepare(claim.profile)
        elif mode == "CMYK" and not claim.broken:
            self.warning = "is CMYK without a colour profile"
        if self.warning:
            self.warning += "; its colours are taken as they are"

    @property
    def changes(self) -> bool:
        """Whether it changes any colour."""
        return self._transform is not None

    def apply(self, image: Image.Image) -> Image.Image:
        """Return a picture as sRGB; one that is RGB may be changed in place."""
        if self._transform is None:
            return image if image.mode == "RGB" else image.convert("RGB")
        if self._mode == "RGB":
            pixels = image if image.mode == "RGB" else image.convert("RGB")
            self._transform.apply_in_place(pixels)
            return pixels
        pixels = image if image.mode == self._mode else image.convert(self._mode)
        converted = Image.new("RGB", pixels.size)
        for top in range(0, pixels.height, _ROWS_AT_ONCE):
            bottom = min(top + _ROWS_AT_ONCE, pixels.height)
            strip = pixels.crop((0, top, pixels.width, bottom))
            converted.paste(self._transform.apply(strip), (0, top))
        return converted

    def _prepare(self, profile: bytes) -> None:
        """Read the profile; one that cannot be used becomes a warning."""
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            if self._mode == "L" and space == "RGB":
                self._mode = "RGB"  # grey as equal parts of all three
            if self._mode not in _MODES.get(space, ()):
                self.warning = f"has a colour profile for other pixels ({_printable(space)})"
                return
            transform = ImageCms.buildTransform(source, _srgb(), self._mode, "RGB")
            name = self._claim.name or _printable(ImageCms.getProfileDescription(source))
        except _BROKEN:
            self.warning = "has a damaged colour profile"
            return
        if _changes(transform, self._mode):
            self._transform = transform
            self.remark = f"has the colours of {name or 'a profile'}; they are converted to sRGB"


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether any colour changes by more than the rounding of a profile for sRGB."""
    if mode == "CMYK":
        return True
    if mode == "L":
        probe = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        colours = bytes(value for colour in product(_STEPS, repeat=3) for value in colour)
        probe = Image.frombytes("RGB", (len(colours) // 3, 1), colours)
    difference = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
    return any(level > 1 for level in difference.tobytes())


def _printable(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return shown[:_MAX_NAME_CHARACTERS]


def _xyz(point: Chromaticity) -> tuple[float, float, float]:
    x, y = point
    return (x / y, 1.0, (1 - x - y) / y)


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the inverse of a 3 x 3 matrix by its cofactors."""
    cofactors = [
        [
            matrix[(r + 1) % 3][(c + 1) % 3] * matrix[(r + 2) % 3][(c + 2) % 3]
            - matrix[(r + 1) % 3][(c + 2) % 3] * matrix[(r + 2) % 3][(c + 1) % 3]
            for c in range(3)
        ]
        for r in range(3)
    ]
    determinant = sum(a * b for a, b in zip(matrix[0], cofactors[0], strict=True))
    if abs(determinant) < 1e-9:
        raise ZeroDivisionError("the matrix has no inverse")
    return [[cofactors[c][r] / determinant for c in range(3)] for r in range(3)]


def _fixed(value: float) -> bytes:
    """Return a number as ICC's s15Fixed16Number."""
    return struct.pack(">i", round(value * 65536))


def _xyz_tag(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _curve(gamma: float | None) -> bytes:
    """Return a parametric curve: a power, or that of sRGB (IEC 61966-2-1)."""
    if gamma is not None:
        return b"para" + bytes(8) + _fixed(gamma)
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, numbers))


def _assembled(tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a display profile, RGB to XYZ, of these tags."""
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI", start + len(body), b"", 0x04300000) + b"mntrRGB XYZ "
    header = header.ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + table + body
