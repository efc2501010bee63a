"""Names a subject after its folder, so that folders of different subjects get different names."""

import hashlib
import re
import unicodedata
from pathlib import Path

MAX_CHARACTERS = 63
_DIGEST_CHARACTERS = 6
# Words that say that there are pictures, not of what.
_WORDS = """
a all archive copy crop cropped crops data dataset datasets dcim download downloads edited export
exported extracted file files final folder gz heic image images img imgs input inputs instance jpeg
jpg my new of old original originals out output photo photographs photos pic pics picture pictures
png raw reg resized roll sample samples selected selection set shots src subject subjects tar temp
test tgz the tmp to train training untitled upload uploads webp zip
bild bilde bilder foto fotografias fotografie fotos imagen imagenes immagini kuvat obrazy zdjecia
"""
_WORDS_IN_OTHER_LETTERS = """
写真 画像 照片 图片 圖片 相片 사진 이미지 фото фотографии изображения картинки صور
φωτογραφίες εικόνες תמונות
"""
_SAYS_NOTHING = frozenset(_WORDS.split())
_SAYS_NOTHING_IN_OTHER_LETTERS = frozenset(_WORDS_IN_OTHER_LETTERS.split())
# Counts, dates, sizes, and a camera's own folders (100APPLE).
_NUMBER = re.compile(r"[0-9]+(px|x[0-9]+|apple|canon|nikon|media|msdcf|olymp|pana)?")
# Letters that no decomposition turns into Latin ones.
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th"})


def subject_name(folder: Path) -> str:
    """Return a folder's name as a subject's name: lower case, digits and hyphens.

    A name that says nothing (`photos`, `2024`) is preceded by the names of the folders above it, up
    to one that says something. A name in other letters is written in Latin ones as far as possible,
    and ends with a short digest, since that loses what sets it apart. So does a name that is cut.

    Args:
        folder: of pictures.
    """
    parts: list[str] = []
    for name in reversed(folder.resolve().parts[1:]):
        parts.insert(0, _part(name))
        if not _says_nothing(name):
            break
    whole = "-".join(parts) or "subject"
    if len(whole) <= MAX_CHARACTERS:
        return whole
    return f"{whole[: MAX_CHARACTERS - 1 - _DIGEST_CHARACTERS].rstrip('-')}-{_digest(whole)}"


def _part(name: str) -> str:
    """Return one folder's name as a part of a subject's name, never empty."""
    slug = _slug(name)
    if slug and not _loses(name):
        return slug
    return f"{slug or 'subject'}-{_digest(unicodedata.normalize('NFC', name).lower())}"


def _says_nothing(name: str) -> bool:
    """Return whether a name has only numbers and words that any folder of pictures may have."""
    if unicodedata.normalize("NFC", name).lower().strip() in _SAYS_NOTHING_IN_OTHER_LETTERS:
        return True
    if _loses(_latin(name)):
        return False
    words = _slug(name).split("-")
    return all(not word or word in _SAYS_NOTHING or _NUMBER.fullmatch(word) for word in words)


def _slug(name: str) -> str:
    """Return what Latin letters and digits a name has, other characters as hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", _latin(name)).strip("-")


def _latin(name: str) -> str:
    """Return a name in lower case, its accents left out; letters of other scripts stay."""
    parts = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    return "".join(each for each in parts if not unicodedata.combining(each))


def _loses(name: str) -> bool:
    """Return whether a name has letters, numbers or symbols that its slug cannot show."""
    return any(
        each in "+#" or (not each.isascii() and unicodedata.category(each)[0] in "LNMS")
        for each in name
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGEST_CHARACTERS]
