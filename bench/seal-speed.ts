/**
 * `node bench/seal-speed.ts`: what sealing and opening cost, in MB/s of plain bytes per processor:
 * a pack written in pieces, read whole and read in ranges, sealed over memory and not.
 */
import { testSealing } from '../test/harness/sealing.ts'
import { openMemoryStorage } from '../src/storage/memory-storage.ts'
import { openSealedStorage } from '../src/storage/sealed-storage.ts'
import { ForwardingStorage } from '../src/storage/forwarding-storage.ts'
import type { ObjectWriter, Storage } from '../src/storage/storage.ts'
import { median } from './measure.ts'

const PACK_BYTES = 32 * 1024 * 1024
/** About a frame of 16 pages, compressed. */
const PIECE_BYTES = 40_000
/** What a restore reads at once. */
const RANGE_BYTES = 1024 * 1024
const ROUNDS = 9

/** Processor seconds: what else the machine does counts less. */
async function timed(act: () => Promise<unknown>): Promise<number> {
  const begin = process.cpuUsage()
  await act()
  const { user, system } = process.cpuUsage(begin)
  return (user + system) / 1e6
}

async function writePack(storage: Storage, piece: Uint8Array): Promise<void> {
  const writer = await storage.openWriter('pack')
  for (let at = 0; at < PACK_BYTES; at += piece.length) writer.append([piece])
  await writer.commit()
}

async function readRanges(storage: Storage): Promise<void> {
  for (let at = 0; at < PACK_BYTES; at += RANGE_BYTES) {
    await storage.readRange('pack', at, RANGE_BYTES)
  }
}

/** Takes what is written and keeps none of it: the copying of a memory would be measured. */
class Sink extends ForwardingStorage {
  override async openWriter(): Promise<ObjectWriter> {
    return { append() {}, commit: async () => undefined, abort: async () => undefined }
  }
}

async function measure(storage: Storage, sink: Storage): Promise<Record<string, number>> {
  const piece = Buffer.alloc(PIECE_BYTES, 1)
  const seconds: Record<string, number[]> = { written: [], 'read whole': [], 'read in ranges': [] }
  await writePack(storage, piece)
  for (let round = 0; round < ROUNDS; round++) {
    seconds['written']?.push(await timed(async () => await writePack(sink, piece)))
    seconds['read whole']?.push(await timed(async () => await storage.read('pack')))
    seconds['read in ranges']?.push(await timed(async () => await readRanges(storage)))
  }
  return Object.fromEntries(Object.entries(seconds).map(([name, all]) => [name, median(all)]))
}

const seal = (storage: Storage): Storage => openSealedStorage(storage, testSealing())
const sink = new Sink(openMemoryStorage())
const plain = await measure(openMemoryStorage(), sink)
const sealed = await measure(seal(openMemoryStorage()), seal(sink))
for (const [name, seconds] of Object.entries(sealed)) {
  const own = seconds - (plain[name] ?? 0)
  const rate = (one: number): string => `${(PACK_BYTES / 1e6 / one).toFixed(0)} MB/s`
  console.log(`${name}: ${rate(seconds)} sealed; the seal alone ${rate(own)}`)
}
