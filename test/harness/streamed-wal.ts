/** The same synthetic WAL in every process: a few segments of 1 MB, and a part of one more. */
import { MB, SyntheticWal } from './wal-builder.ts'

export function makeStreamed(): { readonly bytes: Buffer; readonly begin: number } {
  const wal = new SyntheticWal()
  for (let xid = 1; wal.position < BigInt(5 * MB + 300_000); xid++) {
    const mainData = Buffer.alloc(500 + ((xid * 977) % 5000), (xid * 31) % 251)
    wal.append({ xid, info: 0, resourceManager: 1, mainData })
  }
  const segments = [...wal.segments.keys()].sort((a, b) => (a < b ? -1 : 1))
  const all = Buffer.concat(segments.map((one) => wal.segments.get(one) as Buffer))
  return { bytes: all.subarray(0, Number(wal.position) - MB), begin: MB }
}
