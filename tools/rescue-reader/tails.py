#!/usr/bin/env python3
"""Adds to a directory that rescue.py has restored what was flushed of the last WAL segment.

Follows docs/design/tails.md, section 1. A segment of which the repository has no whole one is
written from its tail, padded with zeros: PostgreSQL recovers to the last record in it. What does
not hold is named on standard error, what lies before it is used; the exit status is 1 then.
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

NAME = re.compile(r'([0-9A-F]{24})\.([0-9a-f]{16})\.(?:journal|([0-9A-F]{8})-([0-9A-F]{8})\.piece)')
problems = []

def need(holds, problem):
    if not holds:
        raise ValueError(problem)

def report(problem):
    problems.append(problem)
    print(f'PROBLEM {problem}', file=sys.stderr)

def parse_chunk(journal, at):
    """(ordinal, start of the hash before, hash, payload) of a chunk that holds, else None."""
    if journal[at:at + 4] != b'TMJC' or at + 64 > len(journal):
        return None
    length, ordinal = struct.unpack_from('<IQ', journal, at + 4)
    payload = journal[at + 64:at + 64 + length]
    digest = hashlib.sha256(journal[8:24] + journal[at:at + 32] + payload).digest()
    if len(payload) != length or digest != journal[at + 32:at + 64]:
        return None
    return ordinal, journal[at + 16:at + 32], digest, payload

def read_journal(journal, name):
    """The payloads, from the first on without a gap."""
    need(journal[:8] == b'TMJRNL01', f'{name}: does not begin as a journal does')
    payloads, before, at = [], journal[8:24], 64
    chunk = parse_chunk(journal, at)
    while chunk and chunk[0] == len(payloads) and chunk[1] == before[:16]:
        payloads.append(chunk[3])
        before, at = chunk[2], at + 64 + (len(chunk[3]) + 7) // 8 * 8
        chunk = parse_chunk(journal, at)
    later = journal.find(b'TMJC', at)
    while later >= 0:
        chunk = parse_chunk(journal, later) if later % 8 == 0 else None
        if chunk and chunk[0] >= len(payloads):
            report(f'{name}: damaged behind byte {at}, and more was flushed')
            break
        later = journal.find(b'TMJC', later + 1)
    need(payloads, f'{name}: its first chunk does not hold')
    return payloads

def read_piece(piece, name):
    """The head and the WAL in the envelope of a piece."""
    need(piece[:12] == b'TMOBJ001TAIL', f'{name}: not a piece of a tail')
    content = subprocess.run(['zstd', '-dcq'], input=piece[48:], capture_output=True).stdout
    need(len(content) == int.from_bytes(piece[12:16], 'little'), f'{name}: does not expand')
    need(hashlib.sha256(content).digest() == piece[16:48], f'{name}: its SHA-256 does not hold')
    length = int.from_bytes(content[:4], 'little')
    return content[4:4 + length], content[4 + length:]

def read_part(path, system):
    """(segment size, offset in the segment, bytes) of a journal or a piece."""
    name, whole = path.name, path.read_bytes()
    segment, opening, begin, end = NAME.fullmatch(name).groups()
    if begin is None:
        text, *chunks = read_journal(whole, name)
        head = json.loads(text)
        content, size = b'', head['walSegmentSizeBytes']
        start = number_of(segment, size) * size
        for chunk in chunks:
            need(int.from_bytes(chunk[:8], 'little') == start + len(content),
                 f'{name}: its chunk at {len(content)} is not the one that follows')
            content += chunk[8:]
    else:
        text, content = read_piece(whole, name)
        head = json.loads(text)
        size = head['walSegmentSizeBytes']
        need(int(end, 16) - int(begin, 16) == len(content), f'{name}: not the range in its name')
    told = [head[key] for key in ('format', 'systemIdentifier', 'segment', 'opening')]
    need(told == [1, system, segment, opening], f'{name}: its head is that of another tail')
    need(int(begin or '0', 16) + len(content) <= size, f'{name}: is longer than a segment')
    return size, int(begin or '0', 16), content

def number_of(segment, size):
    return int(segment[8:16], 16) * (2**32 // size) + int(segment[16:], 16)

def read_opening(paths, system):
    """What the parts of one opening cover without a gap from offset 0, and the segment's size."""
    parts, size, content = [], 0, b''
    for path in paths:
        try:
            parts.append(read_part(path, system))
        except (ValueError, KeyError, OSError) as problem:
            report(problem)
    for size, begin, part in sorted(parts, key=lambda one: (one[1], -len(one[2]))):
        overlap = min(len(content) - begin, len(part))
        if overlap < 0 or content[begin:begin + overlap] != part[:overlap]:
            report(f'{paths[0].name}: its parts differ, or one is missing, at {begin}')
            break
        content += part[overlap:]
    return size, content

def choose(openings, wanted, system):
    """The one that reaches furthest, unless one contradicts it."""
    read = {opening: read_opening(paths, system) for opening, paths in openings.items()}
    best = max(read, key=lambda one: len(read[one][1]))
    if wanted.intersection(read):
        return read[wanted.intersection(read).pop()]
    for opening, (_size, content) in read.items():
        need(read[best][1].startswith(content), f'{openings[best][0].name}: the opening {opening} '
             f'has other WAL; choose one: --opening {best} or --opening {opening}')
    return read[best]

def fork_of(into, timeline):
    """Where a timeline left its parent (0: nowhere known)."""
    try:
        lines = (into / 'pg_wal' / f'{timeline}.history').read_text().splitlines()
        high, low = [line for line in lines if line.split()][-1].split()[1].split('/')
        return int(high, 16) << 32 | int(low, 16)
    except OSError:
        return 0

def write_tail(into, segment, whole, size, content):
    number = number_of(segment, size)
    numbers = [number_of(name, size) for name in whole]
    if not content or number < min(numbers):
        return
    need(number - 1 in numbers, f'{segment}: the segment before it is missing; was the backup '
         'restored with --wal?')
    start, fork = number * size, fork_of(into, segment[:8])
    end = start + len(content)
    need(not start <= fork < start + size or end > fork,
         f'{segment}: its tail ends before the timeline begins; the parent has more')
    with open(into / 'pg_wal' / segment, 'xb') as file:
        file.write(content + bytes(size - len(content)))
    print(f'{segment} up to {end >> 32:X}/{end & 0xffffffff:X}')

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('repository', help='the directory with the file tidemark.repository')
    parser.add_argument('into', help='what rescue.py has restored with --wal')
    parser.add_argument('--opening', action='append', default=[], help='of two that contradict')
    options = parser.parse_args()
    os.umask(0o077)
    root, into = pathlib.Path(options.repository), pathlib.Path(options.into)
    identity = json.loads((root / 'tidemark.repository').read_bytes())
    need(identity['format'] == 1, 'tails.py does not know the format of this repository')
    need('encryption' not in identity, 'the repository is encrypted: see unseal.py')
    control = [into / 'global' / name for name in ('pg_control', 'pg_control.rescue')]
    found = [path.read_bytes()[:8] for path in control if path.exists()]
    need(found, f'{into} has no pg_control')
    system = str(int.from_bytes(found[0], 'little'))
    whole = [path.name for path in (into / 'pg_wal').iterdir() if len(path.name) == 24]
    need(whole, f'{into} has no WAL')
    tails = {}
    for path in sorted(root.glob(f'clusters/*/wal/{system}/tails/*')):
        name = NAME.fullmatch(path.name)
        if name and not any(root.glob(f'clusters/*/wal/{system}/*/*/{name[1]}.wal')):
            tails.setdefault(name[1], {}).setdefault(name[2], []).append(path)
    for segment, openings in tails.items():
        try:
            write_tail(into, segment, whole, *choose(openings, set(options.opening), system))
        except (ValueError, OSError) as problem:
            report(problem)
    os.sync()
    sys.exit(1 if problems else 0)

try:
    main()
except (ValueError, OSError) as failure:
    sys.exit(f'PROBLEM {failure}')
