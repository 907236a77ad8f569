/** Proves a file that is no relation fork: its chunks, in order, make its SHA-256. */
import { createHash } from 'node:crypto'
import { toFailureMessage } from '../../base/failure.ts'
import { FRAME_KINDS } from '../../repository/pack-format.ts'
import type { ContentAnswer, ContentTask, Fault } from './messages.ts'
import type { PrintSource } from './print-source.ts'
import { isDamage } from './prove-pack.ts'

export async function proveContent(
  source: PrintSource,
  { size, chunks, sha256 }: ContentTask['files'][number],
): Promise<ContentAnswer> {
  const lost: Fault[] = []
  const content = createHash('sha256')
  let bytes = 0
  for (const { pack, frame } of chunks) {
    const damage = source.findDamage(pack, frame)
    if (damage !== undefined) {
      lost.push({ pack, frame, failure: damage })
      continue
    }
    try {
      const known = await source.open(pack)
      if (known.reader.frames[frame]?.kind !== FRAME_KINDS.content) {
        return { lost, wrong: `its list of chunks names frame ${frame} of ${known.reader.key}` }
      }
      const raw = await source.readFrame(known, frame)
      content.update(raw)
      bytes += raw.length
    } catch (error) {
      if (!isDamage(error)) throw error
      lost.push({ pack, frame, failure: toFailureMessage(error) })
    }
  }
  if (lost.length > 0) return { lost, wrong: undefined }
  if (bytes !== size) return { lost, wrong: `its chunks have ${bytes} bytes, and the file ${size}` }
  const isSame = content.digest('hex') === sha256
  return { lost, wrong: isSame ? undefined : 'its chunks do not make the SHA-256 of the file' }
}
