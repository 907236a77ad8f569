/**
 * One pack of several repositories that are read as one: opened in the first that has it
 * whole; a frame that this one cannot give is taken from the next. An ordinal names the same
 * frame everywhere, though not at the same offset.
 *
 * Invariant: a frame from another repository was proved by the hash in the index there, and
 * that index by its pack's trailer.
 */
import { isAway, takeFromFirst } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { FrameCopy, PackReader } from './pack-reader.ts'

type OpenAlone = (copy: Storage) => Promise<PackReader>

/** TM1601 or TM1602 with what is wrong in each, when none has it. */
export async function openPackCopies(
  storage: Storage,
  key: string,
  open: OpenAlone,
): Promise<PackReader> {
  const opened = await takeFromFirst(storage, key, async (copy) => {
    return { copy, reader: await open(copy) }
  })
  // A missing pack is a failure of `open`, so that one was opened or that was thrown.
  if (opened === undefined) throw new Error(`${key} was neither opened nor refused`)
  return joinCopies(storage, opened.copy, opened.reader, open)
}

function joinCopies(
  storage: Storage,
  first: Storage,
  reader: PackReader,
  open: OpenAlone,
): PackReader {
  const others = new Map<Storage, Promise<PackReader>>()
  const openIn = async (copy: Storage): Promise<PackReader> => {
    if (copy === first) return reader
    let other = others.get(copy)
    if (other === undefined) {
      other = open(copy)
      others.set(copy, other)
    }
    return await other
  }
  const readCopy = async (ordinal: number): Promise<FrameCopy> => {
    const copied = await takeFromFirst(storage, reader.key, async (copy) => {
      return await (await openIn(copy)).readCopy(ordinal)
    })
    if (copied === undefined) throw new Error(`${reader.key} was neither read nor refused`)
    return copied
  }
  return {
    ...reader,
    get isAway() {
      return isAway(storage, first)
    },
    readCopy,
    async readFrame(ordinal) {
      const { reader: from, stored } = await readCopy(ordinal)
      const raw = from.decodeUnproved(ordinal, ordinal, stored)
      return raw === stored ? raw : new Uint8Array(raw)
    },
  }
}
