import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../../postgres/lsn.ts'
import { decodeHeader, encodeHeader, sha256 } from './header.ts'

const place = { storedBytes: 3, rawBytes: 9, hash: sha256(Buffer.from('abc')) }

test('the hash of the segment comes back as it was given, of 16 bytes and of 32', () => {
  for (const contentHash of ['58e2fccefa7e3061367f1d57a4e7455a', place.hash.toString('hex')]) {
    const header = {
      systemIdentifier: 7n,
      segmentStart: lsn(0x1000000n),
      timeline: 1,
      walSegmentSizeBytes: 1 << 24,
      contentHash,
      major: 15,
      times: undefined,
      snapshot: undefined,
      endOffset: 100,
      end: 'whole',
      endCount: 1,
    } as const
    const stored = { header, events: place, pages: place }
    assert.deepEqual(decodeHeader('the/key', encodeHeader(stored)), stored)
  }
})
