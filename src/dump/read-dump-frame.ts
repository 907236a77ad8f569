/**
 * Reads one frame of a dump's packs, from whichever repository has it.
 *
 * Invariant: what is returned was proved by the index of its pack, and is of the kind that was
 * asked for.
 */
import type { FrameReference } from '../repository/backup-record.ts'
import { damagedObject } from '../repository/envelope.ts'
import type { PackCache } from '../repository/pack-cache.ts'
import type { FrameKind } from '../repository/pack-format.ts'
import type { PackReader } from '../repository/pack-reader.ts'

export interface DumpFrame {
  /** Key of its pack. */
  readonly key: string
  /** In memory of its own. */
  readonly raw: Uint8Array
}

export async function readDumpFrame(
  packs: PackCache,
  { pack, frame }: FrameReference,
  kind: FrameKind,
): Promise<DumpFrame> {
  const { reader, stored } = await (await packs.open(pack)).readCopy(frame)
  requireKind(reader, frame, kind)
  return { key: reader.key, raw: Uint8Array.from(reader.decodeStored(frame, frame, stored)) }
}

/** The hashes hold: only a reference to another frame than was written can make this fail. */
export function requireKind({ key, frames }: PackReader, frame: number, kind: FrameKind): void {
  const found = frames[frame]?.kind
  if (found === kind) return
  throw damagedObject(
    key,
    `its frame ${frame} is of kind ${found}, and kind ${kind} is referred to`,
  )
}
