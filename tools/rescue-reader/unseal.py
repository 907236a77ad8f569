#!/usr/bin/env python3
"""Copies an encrypted Tidemark repository into one that is not encrypted, without Tidemark.

Follows docs/design/encryption.md. What does not hold is named on standard error and left out;
the rest is copied, and the exit status is 1. Then rescue.py restores from the copy. Needs
Python 3.8 or later and OpenSSL's libcrypto (1.1 or 3), which Debian's python3 comes with.
"""
import argparse
import ctypes.util
import hashlib
import hmac
import json
import os
import pathlib
import struct
import sys

HEADER, BLOCK, TAG = 64, 65536, 16
OPEN = ('tidemark.repository', 'keys', 'probe', '.incoming')
problems = []

def need(holds, problem):
    if not holds:
        raise ValueError(problem)

def report(problem):
    problems.append(problem)
    print(f'PROBLEM {problem}', file=sys.stderr)

def load_libcrypto():
    for name in (ctypes.util.find_library('crypto'), 'libcrypto.so.3', 'libcrypto.so.1.1'):
        try:
            crypto = ctypes.CDLL(name)
            crypto.EVP_CIPHER_CTX_new.restype = crypto.EVP_aes_256_gcm.restype = ctypes.c_void_p
            return crypto
        except (OSError, TypeError, AttributeError):
            continue
    sys.exit('unseal.py needs the library libcrypto of OpenSSL (Debian: apt-get install libssl3)')

crypto = load_libcrypto()

def open_gcm(key, nonce, associated, sealed):
    """AES-256-GCM: the plain bytes, or None when the tag does not hold."""
    size, tag = len(sealed) - TAG, sealed[-TAG:]
    if size < 0:
        return None
    plain, out = ctypes.create_string_buffer(size + TAG), ctypes.byref(ctypes.c_int())
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    cipher = ctypes.c_void_p(crypto.EVP_aes_256_gcm())
    try:
        done = [
            crypto.EVP_DecryptInit_ex(context, cipher, None, key, nonce),
            crypto.EVP_DecryptUpdate(context, None, out, associated, len(associated)),
            crypto.EVP_DecryptUpdate(context, plain, out, sealed[:size], size),
            crypto.EVP_CIPHER_CTX_ctrl(context, 0x11, TAG, tag),
            crypto.EVP_DecryptFinal_ex(context, ctypes.byref(plain, size), out)]
    finally:
        crypto.EVP_CIPHER_CTX_free(context)
    return plain.raw[:size] if all(one == 1 for one in done) else None

def hkdf(key, info, salt=b'', size=32):
    """RFC 5869 with SHA-256, for at most 32 bytes."""
    secret = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(secret, info.encode() + b'\1', hashlib.sha256).digest()[:size]

def x25519(private, public):  # RFC 7748
    prime = 2**255 - 19
    scalar = int.from_bytes(private, 'little') & ~7 & (2**255 - 1) | 2**254
    x1 = int.from_bytes(public, 'little') & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, x1, 1, 0
    for bit in [*range(254, -1, -1), None]:
        now = 0 if bit is None else scalar >> bit & 1
        if now != swapped:
            x2, z2, x3, z3, swapped = x3, z3, x2, z2, now
        if bit is None:
            return (x2 * pow(z2, prime - 2, prime) % prime).to_bytes(32, 'little')
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % prime, c * b % prime, a * a % prime, b * b % prime
        x3, z3 = (da + cb)**2 % prime, x1 * (da - cb)**2 % prime
        x2, z2 = aa * bb % prime, (aa - bb) * (aa + 121665 * (aa - bb)) % prime

def unwrap(key, wrapped, name):
    return open_gcm(key, bytes.fromhex(wrapped[:24]), name.encode(), bytes.fromhex(wrapped[24:]))

def read_key_objects(root, pattern):
    for path in sorted(pathlib.Path(root).glob(pattern)):
        try:
            whole = json.loads(path.read_bytes())
            text = whole['content'].encode()
            need(hashlib.sha256(text).hexdigest() == whole['sha256'], 'its SHA-256 does not hold')
            yield json.loads(text)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            report(f'{path}: {problem}')

def open_slots(root, repository, secret, is_passphrase):
    """(slot, its private key) of each slot that the secret opens."""
    for slot in read_key_objects(root, 'keys/slots/*.slot'):
        kdf, salt = slot['kdf'], bytes.fromhex(slot['kdf']['salt'])
        if (kdf['name'] == 'scrypt') != is_passphrase:
            continue
        if is_passphrase:
            costs = {name: kdf[name] for name in 'nrp'}
            under = hashlib.scrypt(secret, salt=salt, maxmem=2**31 - 1, dklen=32, **costs)
        else:
            under = hkdf(secret, 'tidemark slot', salt)
        made_for = f'{slot["anchor"]["generation"]} {slot["anchor"]["fingerprint"]}'
        name = f'tidemark slot {repository} {slot["id"]} {slot["publicKey"]} {made_for}'
        private = unwrap(under, slot['privateKey'], name)
        if private is not None:
            yield slot, private

def open_generations(root, repository, slot, private):
    """{key id: data key}: each by its wrap for the slot, or out of the one behind it."""
    keys, generations = {}, {one['generation']: one for one in read_key_objects(root, 'keys/*.key')}
    def keep(key, generation, key_id):
        if key is not None and hkdf(key, 'tidemark key id', size=8).hex() == key_id:
            keys[generation] = (key_id, key)
    for generation in sorted(generations, reverse=True):
        content = generations[generation]
        name = f'tidemark data key {repository} {generation} {content["keyId"]}'
        wraps = [wrap for wrap in content['wraps'] if wrap['slot'] == slot['id']]
        if slot['joined'] and slot['joined']['generation'] == generation:
            wraps.append(slot['joined'])
        for wrap in wraps if generation not in keys else []:
            ephemeral = bytes.fromhex(wrap['ephemeral'])
            salt = ephemeral + bytes.fromhex(slot['publicKey'])
            under = hkdf(x25519(private, ephemeral), 'tidemark wrap', salt)
            keep(unwrap(under, wrap['wrapped'], name), generation, content['keyId'])
        for previous in content['previous'] if generation in keys else []:
            under, key_id = hkdf(keys[generation][1], 'tidemark previous'), previous['keyId']
            name = f'tidemark data key {repository} {previous["generation"]} {key_id}'
            keep(unwrap(under, previous['wrapped'], name), previous['generation'], key_id)
    return dict(keys.values())

def unseal(source, target, repository, name, keys):
    """Copies one object block by block; the file stays only when every tag has held."""
    size = os.fstat(source.fileno()).st_size
    header = source.read(HEADER)
    need(header[:8] == b'TMSEAL01' and header[32:36] == BLOCK.to_bytes(4, 'little'), 'not sealed')
    key = keys.get(header[8:16].hex())
    need(key is not None, f'sealed with the key {header[8:16].hex()}, which cannot be had')
    subkey = hkdf(key, 'tidemark seal 1', header[16:32])
    associated, left, number = header + repository.encode() + name.encode(), size - HEADER, 0
    while True:
        block = source.read(min(left, BLOCK + TAG))
        left -= len(block)
        nonce = number.to_bytes(8, 'little') + bytes([0, 0, 0, left == 0])
        plain = open_gcm(subkey, nonce, associated, block)
        need(plain is not None, f'the tag of block {number} does not hold')
        target.write(plain)
        number += 1
        if left == 0:
            return

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

def unseal_journal(source, target, repository, name, keys):
    """A journal (docs/design/tails.md, 1): the same chunks, one block in each, hashed again."""
    journal, at, number = source.read(), 64, 0
    need(journal[:8] == b'TMJRNL01', 'does not begin as a journal does')
    before = copied = journal[8:24]
    target.write(journal[:64])
    chunk = parse_chunk(journal, at)
    while chunk and chunk[0] == number and chunk[1] == before[:16]:
        _ordinal, _before, before, block = chunk
        at += 64 + (len(block) + 7) // 8 * 8
        if number == 0:
            header, block = block[:HEADER], block[HEADER:]
            need(header[:8] == b'TMSEAL01', 'not sealed')
            key = keys.get(header[8:16].hex())
            need(key is not None, f'sealed with the key {header[8:16].hex()}, which cannot be had')
            subkey = hkdf(key, 'tidemark seal 1', header[16:32])
            associated = header + repository.encode() + name.encode()
        plain = open_gcm(subkey, number.to_bytes(12, 'little'), associated, block)
        need(plain is not None, f'the tag of chunk {number} does not hold')
        head = b'TMJC' + struct.pack('<IQ', len(plain), number) + copied[:16]
        copied = hashlib.sha256(journal[8:24] + head + plain).digest()
        target.write(head + copied + plain + bytes(-len(plain) % 8))
        chunk, number = parse_chunk(journal, at), number + 1
    need(number > 0, 'its first chunk does not hold')
    while (at := journal.find(b'TMJC', at)) >= 0:
        later = parse_chunk(journal, at) if at % 8 == 0 else None
        if later and later[0] >= number:
            report(f'{name}: damaged behind chunk {number - 1}, and more was flushed')
            return
        at += 1

def copy_objects(root, into, identity, keys):
    for path in sorted(path for path in root.rglob('*') if path.is_file()):
        name = path.relative_to(root)
        if name.parts[0] in OPEN:
            continue
        copy = into / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(path, 'rb') as source, open(copy, 'xb') as target:
                open_object = unseal_journal if name.suffix == '.journal' else unseal
                open_object(source, target, identity['repositoryId'], name.as_posix(), keys)
        except (ValueError, OSError) as problem:
            report(f'{name}: {problem}')
            copy.unlink()
    plain = {name: identity[name] for name in ('format', 'repositoryId', 'createdAt')}
    (into / 'tidemark.repository').write_text(json.dumps(plain, separators=(',', ':')) + '\n')

def read_secret(path, is_passphrase):
    secret = pathlib.Path(path).read_bytes()
    ending = 2 if secret.endswith(b'\r\n') else secret.endswith(b'\n')
    line = secret[:len(secret) - ending]
    return line if is_passphrase or all(32 <= byte < 127 for byte in line) else secret

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('repository', help='the directory with the file tidemark.repository')
    parser.add_argument('into', help='a directory that does not exist; needs the same room')
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument('--key-file', help='a key file, or what a key command has printed')
    given.add_argument('--passphrase-file')
    options = parser.parse_args()
    os.umask(0o077)
    root, into = pathlib.Path(options.repository), pathlib.Path(options.into)
    identity = json.loads((root / 'tidemark.repository').read_bytes())
    need(identity.get('encryption') == 1, 'the repository is not encrypted as unseal.py knows it')
    is_passphrase, keys = options.passphrase_file is not None, {}
    secret = read_secret(options.passphrase_file or options.key_file, is_passphrase)
    for slot, private in open_slots(root, identity['repositoryId'], secret, is_passphrase):
        keys.update(open_generations(root, identity['repositoryId'], slot, private))
    need(keys, 'no slot opens with this key')
    into.mkdir(parents=True)
    copy_objects(root, into, identity, keys)
    sys.exit(1 if problems else 0)

try:
    main()
except (ValueError, OSError) as failure:
    sys.exit(f'PROBLEM {failure}')
