/**
 * Reads the chunk lists of the base into the index of chunks that are stored already.
 *
 * Invariant: only chunks in usable packs come into the index.
 */
import type { Failure } from '../base/failure.ts'
import type { FrameReference } from '../repository/backup-record.ts'
import { type ChunkList, decodeChunkList } from '../repository/chunk-list.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { dumpPackKey } from '../repository/keys.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import { PackCache } from '../repository/pack-cache.ts'
import type { Storage } from '../storage/storage.ts'
import type { ChunkIndex } from './chunk-index.ts'
import { mapInOrder } from './map-in-order.ts'
import { isDamage } from './read-chunks.ts'
import { readDumpFrame } from './read-dump-frame.ts'

const READ_AT_ONCE = 8

/** Returns sentences for the report. What cannot be read is stored anew. */
export async function loadDumpBase(
  storage: Storage,
  { cluster, id, files }: DumpRecord,
  usablePacks: ReadonlySet<string>,
  index: ChunkIndex,
): Promise<string[]> {
  const packs = new PackCache(storage, cluster, `dump ${id}`, dumpPackKey)
  const lists = files.flatMap(({ chunkLists }) => chunkLists)
  let failed = 0
  let firstFailure: Failure | undefined
  const read = async (reference: FrameReference): Promise<ChunkList | undefined> => {
    try {
      const { key, raw } = await readDumpFrame(packs, reference, FRAME_KINDS.chunkList)
      return decodeChunkList(key, reference.frame, raw)
    } catch (error) {
      if (!isDamage(error)) throw error
      failed++
      firstFailure ??= error
      return undefined
    }
  }
  for await (const list of mapInOrder(lists, READ_AT_ONCE, read)) {
    if (list !== undefined) addChunks(list, usablePacks, index)
    if (index.isFull) break
  }
  if (firstFailure === undefined) return []
  const why = `${firstFailure.message}: ${firstFailure.because ?? ''}`
  return [
    `${failed} chunk lists of dump ${id} cannot be read, what they name is stored anew (${why})`,
  ]
}

function addChunks(list: ChunkList, usable: ReadonlySet<string>, index: ChunkIndex): void {
  for (let chunk = 0; chunk < list.count; chunk++) {
    const pack = list.packOf(chunk)
    if (!usable.has(pack)) continue
    index.add(list.hashOf(chunk), list.rawLengthOf(chunk), pack, list.frameOf(chunk))
  }
}
