"""Readers of TensorBoard's and Weights & Biases' files, from their formats alone.

TensorBoard: TFRecord frames (length, masked CRC-32C, bytes, masked CRC-32C) around protocol buffers
of type Event. Weights & Biases: LevelDB's log (blocks of 32 KiB, records in one or several pieces)
around protocol buffers of type Record, behind a header of seven bytes. Neither library is used.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = dict[int, list[Any]]
BLOCK_BYTES = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of a frame."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frames(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file; every checksum must be right."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        length, length_crc = struct.unpack_from("<QI", data, place)
        assert masked_crc32c(data[place : place + 8]) == length_crc
        body = data[place + 12 : place + 12 + length]
        (body_crc,) = struct.unpack_from("<I", data, place + 12 + length)
        assert masked_crc32c(body) == body_crc
        yield body
        place += length + 16


def log_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a Weights & Biases file."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, pieces = 7, b""
    while place < len(data):
        if BLOCK_BYTES - place % BLOCK_BYTES < 7:  # no room for a header: the rest is padding
            place += BLOCK_BYTES - place % BLOCK_BYTES
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        assert kind in (FULL, FIRST, MIDDLE, LAST)
        pieces += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            yield pieces
            pieces = b""


def fields(data: bytes) -> Fields:
    """Return the fields of a protocol buffer by number: ints, bytes, and 4 or 8 raw bytes."""
    found: Fields = {}
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _varint(data, place)
        else:
            if kind == 2:
                length, place = _varint(data, place)
            else:
                length = {1: 8, 5: 4}[kind]
            value = data[place : place + length]
            place += length
        found.setdefault(number, []).append(value)
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def board_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what TensorBoard shows of a folder.

    Returns:
        `scalars`: (step, value) pairs by tag; `images`: (step, PNG bytes) by tag; `hparams`: values
        by name.
    """
    board: dict[str, dict[str, Any]] = {"scalars": {}, "images": {}, "hparams": {}}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for frame in frames(path):
            event = fields(frame)
            step = event.get(2, [0])[0]
            for summary in event.get(5, []):
                for value in fields(summary).get(1, []):
                    _take_value(board, step, fields(value))
    return board


def _take_value(board: dict[str, dict[str, Any]], step: int, value: Fields) -> None:
    tag = value[1][0].decode()
    if 2 in value:
        (number,) = struct.unpack("<f", value[2][0])
        board["scalars"].setdefault(tag, []).append((step, number))
    elif 4 in value:
        board["images"].setdefault(tag, []).append((step, fields(value[4][0])[4][0]))
    elif tag == "_hparams_/session_start_info":
        plugin = fields(fields(value[9][0])[1][0])
        assert plugin[1][0] == b"hparams"
        start = fields(fields(plugin[2][0])[3][0])
        for entry in map(fields, start[1]):
            board["hparams"][entry[1][0].decode()] = _hparam(fields(entry[2][0]))


def _hparam(value: Fields) -> Any:
    """Return a google.protobuf.Value."""
    if 2 in value:
        return struct.unpack("<d", value[2][0])[0]
    return value[3][0].decode() if 3 in value else bool(value[4][0])


def run_of(path: Path) -> dict[str, Any]:
    """Return what a Weights & Biases file holds.

    Returns:
        `history`: the rows that were logged; `config`: values by name; `name`, `group`, `project`
        of the run; `exit`: its exit code.
    """
    run: dict[str, Any] = {"history": [], "config": {}, "exit": None}
    for record in map(fields, log_records(path)):
        if 2 in record:
            run["history"].append(_items(fields(record[2][0]).get(1, [])))
        if 5 in record:
            run["config"] |= _items(fields(record[5][0]).get(1, []))
        if 17 in record:
            about = fields(record[17][0])
            for name, number in (("project", 3), ("group", 6), ("name", 8)):
                run[name] = about[number][0].decode()
        if 18 in record:
            run["exit"] = fields(record[18][0]).get(1, [0])[0]
    return run


def _items(items: list[bytes]) -> dict[str, Any]:
    """Return keys (with slashes where they are nested) with their JSON values."""
    return {
        b"/".join(item.get(1) or item[2]).decode(): json.loads(item[16][0])
        for item in map(fields, items)
    }
