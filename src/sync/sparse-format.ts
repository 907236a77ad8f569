/** What a sparse pack is made of (docs/design/repository-format.md, section 3). Pure. */
import { encodePackHeader, type FrameEntry } from '../repository/pack-format.ts'

/** Codec of a frame that the pack has dropped. */
export const CODEC_DROPPED = 255

/** Offset of the flags in the header, and the one that says that frames were dropped. */
const FLAGS_AT = 24
const SPARSE = 2

export function encodeSparseHeader(packId: string): Buffer {
  const header = encodePackHeader(packId)
  header.writeUInt32LE(SPARSE, FLAGS_AT)
  return header
}

export function dropFrame(entry: FrameEntry): FrameEntry {
  return { ...entry, codec: CODEC_DROPPED, storedLength: 0, extents: [] }
}
