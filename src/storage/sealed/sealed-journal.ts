/**
 * Journals whose payloads are sealed, one block for each chunk; chunk 0 begins with the
 * header of the seal (docs/design/tails.md, section 1).
 *
 * Invariant: a seal is drawn for each journal and a journal is opened for writing once, so no
 * nonce, which is the ordinal of the chunk, is used twice under one subkey.
 */
import { Failure } from '../../base/failure.ts'
import { type JournalReading, journalId, reencodeJournal } from '../journal.ts'
import type { Journal, OpenJournal } from '../storage.ts'
import { HEADER_BYTES, type ObjectSeal, openBlock, sealBlock } from './sealed-format.ts'

export async function openSealedJournal(
  open: OpenJournal,
  seal: ObjectSeal,
  key: string,
  head: Uint8Array,
): Promise<Journal> {
  const first = Buffer.concat([seal.header, ...sealBlock(seal, 0, false, head)])
  const inner = await open(key, first)
  let ordinal = 1
  return {
    append: (payload) => {
      inner.append(sealBlock(seal, ordinal, false, Buffer.concat(payload)))
      ordinal += 1
    },
    close: async () => await inner.close(),
  }
}

/** TM1601 when the tag of a chunk does not hold, whose own hash does. */
export function unsealJournal(
  seal: ObjectSeal,
  stored: Uint8Array,
  { chunks, ending, later }: JournalReading,
): Buffer {
  const open = (chunk: Buffer, ordinal: number): Buffer => {
    const block = ordinal === 0 ? chunk.subarray(HEADER_BYTES) : chunk
    const plain = openBlock(seal, ordinal, false, block)
    if (plain !== undefined) return plain
    throw new Failure('TM1601', {
      message: 'a journal is damaged',
      because: `the tag of its chunk ${ordinal} does not hold`,
      fix: 'restore from another repository; keep the damaged object for inspection',
    })
  }
  const behind =
    later === undefined
      ? undefined
      : { ordinal: later.ordinal, payload: open(later.payload, later.ordinal) }
  return reencodeJournal(journalId(stored), chunks.map(open), ending, behind)
}
