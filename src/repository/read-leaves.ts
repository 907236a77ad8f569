/**
 * Reads the leaves of page maps. Many leaves share a frame, and neighbours in the file
 * list share frames most often: the frames last used are kept, and nothing more.
 */
import type { Storage } from '../storage/storage.ts'
import type { LeafReference } from './backup-record.ts'
import { makePackCache } from './file-list.ts'
import { decodeLeaf, type Leaf, leafInFrame } from './page-map.ts'

const KEPT_FRAMES = 64

export interface LeafReader {
  read(reference: LeafReference): Promise<Leaf>
}

export function makeLeafReader(storage: Storage, cluster: string, neededBy: string): LeafReader {
  const pack = makePackCache(storage, cluster, neededBy)
  const frames = new Map<string, Promise<Uint8Array>>()
  const frameOf = ({ pack: packId, frame }: LeafReference): Promise<Uint8Array> => {
    const name = `${packId}/${frame}`
    const kept = frames.get(name)
    if (kept !== undefined) return kept
    const read = pack(packId).then((reader) => reader.readFrame(frame))
    frames.set(name, read)
    if (frames.size > KEPT_FRAMES) frames.delete(frames.keys().next().value as string)
    return read
  }
  return {
    async read(reference) {
      const { key } = await pack(reference.pack)
      return decodeLeaf(key, leafInFrame(key, await frameOf(reference), reference.slot))
    },
  }
}
