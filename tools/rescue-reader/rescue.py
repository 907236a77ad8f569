#!/usr/bin/env python3
"""Lists and restores the backups in a Tidemark repository of format 1, without Tidemark.

Follows docs/design/repository-format.md, whose sections are cited as (3). What does not hold
is named on standard error and the rest is restored; the exit status is 1. See README.md.
"""
import argparse
import hashlib
import io
import json
import os
import pathlib
import struct
import subprocess
import sys

PAGE, CHUNK = 8192, 128 * 1024
# The kinds of entries (5), with what contentHash covers beside path, kind and mode (6).
KINDS = dict(pages='size digest', content='size sha256', link='target', directory='', empty='')
# PostgreSQL does not start what has no pg_control: it gets its name last.
CONTROL_FILE, UNFINISHED = 'global/pg_control', 'global/pg_control.rescue'
# A restored server finds its WAL in pg_wal, goes to its end, and archives nowhere.
SETTINGS = "\n# Written by rescue.py\narchive_mode = off\nrestore_command = 'false'\n" + ''.join(
    f"recovery_target{kind} = ''\n" for kind in ('', '_lsn', '_name', '_time', '_xid'))
problems = []

def need(holds, problem):
    if not holds:
        raise ValueError(problem)

def report(problem):
    problems.append(problem)
    print(f'PROBLEM {problem}', file=sys.stderr)

def sha256(parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()

def expand(stored, raw_length, name):
    """Decompresses one zstd frame, or several that follow one another."""
    done = subprocess.run(['zstd', '-dcq'], input=stored, capture_output=True)
    need(len(done.stdout) == raw_length, f'{name}: does not expand {done.stderr.decode().strip()}')
    return memoryview(done.stdout)

def find_keys(root, pattern):
    return sorted(str(path.relative_to(root)) for path in pathlib.Path(root).glob(pattern))

def read_record(root, key):
    """A backup record out of its envelope (6)."""
    envelope = pathlib.Path(root, key).read_bytes()
    need(envelope[:12] == b'TMOBJ001RECD', f'{key}: not a backup record')
    content = expand(envelope[48:], int.from_bytes(envelope[12:16], 'little'), key)
    need(sha256([content]) == envelope[16:48], f'{key}: its SHA-256 does not hold')
    record = json.loads(bytes(content))
    need(record['format'] == 1, f'{key}: a format that rescue.py does not know')
    need(record['id'] == pathlib.Path(key).stem, f'{key}: the record of another backup')
    return record

def read_pack(root, key, pack_id):
    """The frames of a pack (3) as (codec, stored bytes, raw length, hash)."""
    pack = memoryview(pathlib.Path(root, key).read_bytes())
    headers = [b'TMPACK01' + bytes.fromhex(pack_id) + bytes([flags, 0, 0, 0]) for flags in (0, 2)]
    need(pack[:28] in headers and pack[-8:] == b'TMPACKND', f'{key}: not a whole pack')
    offset, stored_length, raw_length, digest = struct.unpack_from('<QII32s', pack[-64:])
    index = pack[offset:offset + stored_length]
    need(sha256([pack[:64], index, pack[-64:-48]]) == digest, f'{key}: its index is damaged')
    index = expand(index, raw_length, key)
    count = struct.unpack_from('<I', index)[0]
    frames, at = [], 64
    for codec, length, raw, hash16 in struct.iter_unpack('<xBxxIIxxxx16s', index[8:8 + 32 * count]):
        frames.append((codec, pack[at:at + length], raw, hash16))
        at += length
    return frames

def want(plan, pack, frame, use):
    plan.setdefault(pack, {}).setdefault(frame, []).append(use)

def read_frames(root, cluster, plan):
    """Gives (use, content) for every use in {pack: {frame: uses}}; content None: damaged."""
    for pack_id, wanted in sorted(plan.items()):
        key, frames = f'clusters/{cluster}/packs/{pack_id[:24]}/{pack_id[24:]}.pack', []
        try:
            frames = read_pack(root, key, pack_id)
        except (ValueError, OSError) as problem:
            report(problem)
        for first in range(0, len(wanted), 500):
            ordinals = sorted(wanted)[first:first + 500]
            contents = expand_frames(frames, ordinals, key)
            yield from ((use, contents.get(frame)) for frame in ordinals for use in wanted[frame])

def expand_frames(frames, ordinals, key):
    """{ordinal: content} of those that hold. One zstd for many: it costs more than a frame."""
    holds = [i for i in ordinals if i < len(frames) and sha256([frames[i][1]])[:16] == frames[i][3]]
    for ordinal in set(ordinals).difference(holds) if frames else []:
        report(f'{key}: frame {ordinal} is missing or its SHA-256 does not hold')
    packed = [frames[i] for i in holds if frames[i][0] == 1]
    stream = io.BytesIO(expand(b''.join(f[1] for f in packed), sum(f[2] for f in packed), key))
    return {i: stream.read(frames[i][2]) if frames[i][0] == 1 else frames[i][1] for i in holds}

def read_entries(root, record):
    """The file list (5), with pack ids in place of pack numbers."""
    plan, pieces, entries = {}, record['files']['pieces'], []
    for number, piece in enumerate(pieces):
        want(plan, piece['pack'], piece['frame'], number)
    contents = dict(read_frames(root, record['cluster'], plan))
    for number, piece in enumerate(pieces):
        if contents[number] is None:
            report(f'{piece["entries"]} files from {piece["firstPath"]} are lost with their list')
            continue
        content = json.loads(bytes(contents[number]))
        for entry in content['entries']:
            path, flat = entry['path'], entry.get('chunks', entry.get('leaves', []))
            if entry['kind'] not in KINDS or '..' in path.split('/') or path.startswith('/'):
                sys.exit(f'{path}: rescue.py does not know the kind, or the path leads outside')
            width = 3 if entry['kind'] == 'pages' else 2
            entry['places'] = [(content['packs'][flat[at]], *flat[at + 1:at + width])
                               for at in range(0, len(flat), width)]
            entries.append(entry)
    names = (['path', 'kind', 'mode', *KINDS[entry['kind']].split()] for entry in entries)
    lines = ('\0'.join(str(entry[n]) for n in those) for entry, those in zip(entries, names))
    if sha256(line.encode() + b'\n' for line in lines).hex() != record['files']['contentHash']:
        report('file list: contentHash does not hold')
    return entries

def plan_pages(root, record, entries, plan):
    """Reads the page maps (4) and adds to the plan where each page is and goes."""
    maps, leaves = {}, {entry['path']: [b''] * len(entry['places']) for entry in entries}
    for entry in entries:
        for number, (pack, frame, slot) in enumerate(entry['places']):
            want(maps, pack, frame, (entry['path'], number, slot))
    for (path, number, slot), content in read_frames(root, record['cluster'], maps):
        if content is not None:
            start = struct.unpack_from('<I', content, 4 + 4 * slot)[0]
            leaves[path][number] = plan_leaf(content[start:], path, number * 1024, plan)
    for entry in entries:
        if sha256(sha256([leaf]) for leaf in leaves[entry['path']]).hex() != entry['digest']:
            report(f'{entry["path"]}: its page maps do not hold')

def plan_leaf(leaf, path, first_page, plan):
    pages, runs, packs, _zero = struct.unpack_from('<4H', leaf)
    at = 8 + 16 * packs
    fingerprints = leaf[at + 12 * runs:at + 12 * runs + 8 * pages]
    for page, count, pack, slot, frame in struct.iter_unpack('<HHHBxI', leaf[at:at + 12 * runs]):
        while count > 0 and pack != 65535:
            part = min(count, 16 - slot)
            want(plan, leaf[8 + 16 * pack:24 + 16 * pack].hex(), frame,
                 (path, (first_page + page) * PAGE, slot * PAGE, part * PAGE,
                  fingerprints[8 * page:8 * (page + part)]))
            page, count, frame, slot = page + part, count - part, frame + 1, 0
    return fingerprints

def restore_files(root, record, entries, into, prove_pages):
    plan = {}
    for entry in entries:
        make_entry(entry, os.path.join(into, entry['path']), into + '.tablespaces')
        for number, chunk in enumerate(entry['places'] if entry['kind'] == 'content' else []):
            want(plan, *chunk, (entry['path'], number * CHUNK, 0, CHUNK, b''))
    plan_pages(root, record, [entry for entry in entries if entry['kind'] == 'pages'], plan)
    for (path, offset, start, length, proof), content in read_frames(root, record['cluster'], plan):
        if content is None:
            report(f'{path}: {length} bytes at {offset} are lost, zeros stand there instead')
            continue
        part = content[start:start + length]
        if proof and (len(part) != length or prove_pages and xxh64(part) != proof):
            report(f'{path}: pages from {offset // PAGE} on are not those of the page map')
        with open(os.path.join(into, path), 'r+b') as file:
            file.seek(offset)
            file.write(part)
    for entry in reversed(entries):
        finish_entry(entry, os.path.join(into, entry['path']))

def make_entry(entry, path, tablespaces):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if entry['kind'] == 'directory':
        os.makedirs(path, exist_ok=True)
    elif entry['path'].startswith('pg_tblspc/') and entry['kind'] == 'link':
        target = os.path.join(tablespaces, os.path.basename(path))
        os.makedirs(target, mode=0o700)
        os.symlink(target, path)
    elif entry['kind'] == 'link':
        print(f'{entry["path"]} was a link to {entry["target"]}: it is not made', file=sys.stderr)
    else:
        with open(path, 'xb') as file:
            file.truncate(entry.get('size', 0))

def finish_entry(entry, path):
    if entry['kind'] == 'content':
        with open(path, 'rb') as file:
            if sha256(iter(lambda: file.read(CHUNK), b'')).hex() != entry['sha256']:
                report(f'{entry["path"]}: its SHA-256 does not hold')
    if entry['kind'] != 'link':
        os.chmod(path, entry['mode'])

def xxh64(pages):
    """XXH64 with seed 0 of each page (4)."""
    mask, p1, p2 = 2**64 - 1, 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
    p3, p4, found = 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, b''
    def turn(value, bits):
        return (value & mask) << bits | (value & mask) >> (64 - bits)
    for words in struct.iter_unpack('<1024Q', pages):
        lanes = [p1 + p2, p2, 0, -p1]
        for number, word in enumerate(words):
            lanes[number & 3] = turn(lanes[number & 3] + word * p2, 31) * p1
        total = sum(turn(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18)))
        for lane in lanes:
            total = (total ^ turn(lane * p2, 31) * p1) * p1 + p4
        total = (total + PAGE) & mask
        total = (total ^ total >> 33) * p2 & mask
        total = (total ^ total >> 29) * p3 & mask
        found += (total ^ total >> 32).to_bytes(8, 'little')
    return found

def read_wal(root, key):
    """The content of a WAL object (8)."""
    wal = memoryview(pathlib.Path(root, key).read_bytes())
    need(wal[:8] in (b'TMWAL001', b'TMWAL002'), f'{key}: not a WAL object')
    need(sha256([wal[:96], wal[128:]]) == wal[96:128], f'{key}: its SHA-256 does not hold')
    name = bytes(wal[36:64]).rstrip(b'\0').decode()
    need(name == os.path.basename(key).replace('.wal', ''), f'{key}: is {name}')
    raw_length, _stored_length, codec = struct.unpack_from('<IIB', wal, 24)
    content = expand(wal[128:], raw_length, key) if codec == 1 else wal[128:]
    need(wal[:8] == b'TMWAL002' or sha256([content]) == wal[64:96], f'{key}: other content')
    return content

def restore_wal(root, record, into, all_later):
    """The segments that the backup needs, or all from its first on, and every history."""
    first, last = record['walFirst'], record['walLast']
    base = f'clusters/{record["cluster"]}/wal/{record["systemIdentifier"]}/'
    histories = {os.path.basename(key): key for key in find_keys(root, base + '*.history')}
    archived = {pathlib.Path(key).stem: key for key in find_keys(root, base + '*/*/*.wal')}
    later = {name for name in archived if name[:8] >= first[:8] and name[8:] >= first[8:]}
    segments = sorted({first, last} | {name for name in later if all_later or name <= last})
    per_log = 2**32 // record['sizes']['walSegmentSizeBytes']
    numbers = [int(name[8:16], 16) * per_log + int(name[16:], 16) for name in segments]
    for at in range(1, len(segments)):
        if segments[at][:8] == segments[at - 1][:8] and numbers[at] > numbers[at - 1] + 1:
            report(f'WAL is missing between {segments[at - 1]} and {segments[at]}')
    for name in [*histories, *segments]:
        try:
            content = read_wal(root, histories.get(name) or archived.get(name) or base + name)
            pathlib.Path(into, 'pg_wal', name).write_bytes(content)
        except (ValueError, OSError) as problem:
            report(problem)

def write_recovery(record, into, timeline):
    oids = [one['oid'] for one in record['tablespaces'] if one['kind'] == 'link']
    texts = {'backup_label': record['backupLabel'], 'recovery.signal': '',
             'tablespace_map': ''.join(f'{oid} {into}.tablespaces/{oid}\n' for oid in oids),
             'postgresql.auto.conf': f"{SETTINGS}recovery_target_timeline = '{timeline}'\n"}
    for name, text in texts.items():
        with open(os.path.join(into, name), 'a', newline='') as file:
            file.write(text)

def list_backups(options):
    fields = ['cluster', 'id', 'startedAt', 'stoppedAt', 'walFirst', 'walLast']
    for key in find_keys(options.repository, 'clusters/*/backups/*.record'):
        try:
            print(*map(read_record(options.repository, key).get, fields))
        except (ValueError, OSError) as problem:
            report(problem)

def restore(options):
    root, into = options.repository, os.path.abspath(options.into)
    keys = find_keys(root, f'clusters/*/backups/{options.backup}.record')
    need(len(keys) == 1, f'there is no backup {options.backup}')
    record = read_record(root, keys[0])
    entries = read_entries(root, record)
    for entry in entries:
        path = entry['path'][1:] if entry['path'].startswith('@@') else entry['path']
        entry['path'] = UNFINISHED if path == CONTROL_FILE else path
    os.makedirs(into, mode=record['server']['dataDirectoryMode'])
    restore_files(root, record, entries, into, options.fingerprints)
    restore_wal(root, record, into, options.wal)
    write_recovery(record, into, 'latest' if options.wal else 'current')
    os.sync()
    if not problems:
        os.rename(os.path.join(into, UNFINISHED), os.path.join(into, CONTROL_FILE))

def main():
    parser = argparse.ArgumentParser(description='Reads a Tidemark repository without Tidemark.')
    parser.add_argument('repository', help='the directory with the file tidemark.repository')
    parser.add_argument('command', choices=['list', 'restore'])
    parser.add_argument('backup', nargs='?', help='as list calls it')
    parser.add_argument('into', nargs='?', help='a directory that does not exist')
    parser.add_argument('--wal', action='store_true', help='all WAL from the backup on')
    parser.add_argument('--fingerprints', action='store_true', help='prove every page: slow')
    options = parser.parse_args()
    os.umask(0o077)
    try:
        identity = json.loads(pathlib.Path(options.repository, 'tidemark.repository').read_bytes())
        need(identity['format'] == 1, 'rescue.py does not know the format of this repository')
        need(options.command == 'list' or options.into, 'restore needs BACKUP and INTO')
        (list_backups if options.command == 'list' else restore)(options)
    except (ValueError, OSError) as problem:
        report(problem)
    sys.exit(1 if problems else 0)

main()
